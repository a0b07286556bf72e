// What happens in a run that goes on, and the beginning of it all.

function takeRow(row) {
  const at = positions.get(row.id);
  if (at === undefined) positions.set(row.id, model.rows.push(row) - 1);
  else model.rows[at] = row;
  schedule();
}

function takeChunk({ id, text }) {
  const row = rowAt(id);
  if (row) takeRow({ ...row, partial: ((row.partial || "") + text).slice(-LONGEST) });
}

function takeEnd(end) {
  model = { ...model, ...end, live: false };
  index();
  fillFilter();
  if (opened !== null && opened !== "run" && !positions.has(opened)) closeDetail();
  detailOf = null;
  schedule();
}

function follow() {
  const source = new EventSource("events");
  const on = (name, take) => source.addEventListener(name, (event) => take(JSON.parse(event.data)));
  const connection = (text) => {
    model.connection = text;
    schedule();
  };
  source.addEventListener("open", () => connection(null));
  source.addEventListener("error", () => connection("No connection to the run; trying again."));
  on("clock", (at) => {
    clock = { at, seen: performance.now() };
  });
  on("run", (run) => {
    clock = clock || { at: 0, seen: performance.now() };
    model.runs[0] = { ...model.runs[0], ...run };
    schedule();
  });
  on("row", takeRow);
  on("chunk", takeChunk);
  on("end", (end) => {
    source.close();
    clearInterval(ticking);
    takeEnd(end);
  });
  const ticking = setInterval(schedule, 250);
}

function index() {
  positions = new Map(model.rows.map((row, at) => [row.id, at]));
}

function refresh() {
  drawHead();
  drawTrouble();
  packAll();
  filterRows();
  drawRows();
  drawTimeline();
  drawGraph();
  drawDetail();
}

document.documentElement.classList.toggle("comparing", comparing());
index();
readColours();
fillFilter();
drawColumns();
refresh();
listen();
if (model.live) follow();
