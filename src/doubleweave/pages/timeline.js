// The timeline: a canvas, of which only what is in view is drawn.

// A heap of numbers or pairs, least first.
function heap(before) {
  const items = [];
  const swap = (i, j) => ([items[i], items[j]] = [items[j], items[i]]);
  return {
    get size() {
      return items.length;
    },
    peek: () => items[0],
    push(item) {
      let at = items.push(item) - 1;
      while (at > 0 && before(items[at], items[(at - 1) >> 1])) {
        swap(at, (at - 1) >> 1);
        at = (at - 1) >> 1;
      }
    },
    pop() {
      const first = items[0];
      const last = items.pop();
      if (items.length) {
        items[0] = last;
        for (let at = 0; ;) {
          let least = at;
          for (const child of [2 * at + 1, 2 * at + 2]) {
            if (child < items.length && before(items[child], items[least])) least = child;
          }
          if (least === at) break;
          swap(at, least);
          at = least;
        }
      }
      return first;
    },
  };
}

// Puts each step into the first lane that is free when it starts; clocks may be a little off.
function pack(rows, side, first) {
  const SLACK = 0.05;
  const busy = heap((a, b) => a.end < b.end);
  const free = heap((a, b) => a < b);
  let count = 0;
  const ran = rows.filter((row) => row.state !== "skipped" || row.end > row.at || row.error);
  const sorted = ran.sort((a, b) => a.at - b.at || a.depth - b.depth);
  const found = [];
  for (const row of sorted) {
    while (busy.size && busy.peek().end <= row.at + SLACK) free.push(busy.pop().lane);
    const lane = free.size ? free.pop() : count++;
    busy.push({ lane, end: row.state === "running" ? Infinity : Math.max(row.end, row.at) });
    found.push({ row, side, lane: first + lane });
  }
  return [found, count];
}

function packAll() {
  bars = [];
  lanes = [];
  for (const side of model.runs.keys()) {
    const rows = model.rows.map(SIDES[side]).filter(Boolean);
    const [found, count] = pack(rows, side, side ? lanes[0] : 0);
    bars = bars.concat(found);
    lanes.push(count);
  }
  const most = lanes.map((count) => number(count)).join(" and ");
  byId("lanes").textContent = most === "1" ? "one lane" : `${most} lanes`;
}

function span() {
  let from = 0;
  let to = isRunning() ? now() : Math.max(...model.runs.map((run) => run.ms || 0));
  for (const { row } of bars) {
    from = Math.min(from, row.at);
    to = Math.max(to, row.end || row.at);
  }
  return { from, to: Math.max(to, from + 0.001) };
}

const colours = {};
function readColours() {
  const style = getComputedStyle(document.documentElement);
  for (const name of ["text", "muted", "line", "panel", "accent", "sunk"])
    colours[name] = style.getPropertyValue(`--${name}`).trim();
  for (const state of Object.keys(WORDS)) {
    colours[state] = style.getPropertyValue(`--${state}`).trim();
    colours[`${state}-fill`] = style.getPropertyValue(`--${state}-fill`).trim();
  }
  colours.font = getComputedStyle(document.body).fontFamily;
}

function drawTimeline() {
  const width = timeline.clientWidth;
  const total = AXIS + lanes.reduce((sum, count) => sum + count, 0) * LANE + (comparing() ? 2 * CAPTION : 0) + 6;
  const height = Math.min(Math.max(total, AXIS + LANE + 6), 236);
  byId("timeline-space").style.height = `${Math.max(total, height)}px`;
  const scale = window.devicePixelRatio || 1;
  if (canvas.width !== Math.round(width * scale) || canvas.height !== Math.round(height * scale)) {
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
    canvas.style.height = `${height}px`;
  }
  const pen = canvas.getContext("2d");
  pen.setTransform(scale, 0, 0, scale, 0, 0);
  pen.clearRect(0, 0, width, height);
  pen.font = `11px ${colours.font}`;
  pen.textBaseline = "middle";
  const { from, to } = view || span();
  const x = (ms) => 10 + ((ms - from) / (to - from)) * (width - 20);
  drawAxis(pen, from, to, x, width, height);
  // What failed is drawn last, so that nothing hides it.
  for (const isLast of [false, true]) {
    for (const bar of bars)
      if ((bar.row.state === "failed" || bar.row.id === selected) === isLast) drawBar(pen, bar, x, width, height);
  }
  if (comparing()) drawCaptions(pen);
  drawAxisLabels(pen, from, to, x, width);
}

const topOf = ({ lane, side }) =>
  AXIS + 3 + lane * LANE + (comparing() ? (side + 1) * CAPTION : 0) - timeline.scrollTop;

function drawCaptions(pen) {
  pen.fillStyle = colours.muted;
  model.runs.forEach((run, side) => {
    const y = topOf({ lane: side ? lanes[0] : 0, side }) - CAPTION / 2;
    pen.fillText(`Run ${"AB"[side]}, ${OUTCOMES[run.state]} in ${duration(run.ms)}`, 10, y);
  });
}

function ticks(from, to, width) {
  const rough = (to - from) / Math.max(2, width / 120);
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough);
  const found = [];
  for (let count = Math.ceil(from / step); count * step <= to && found.length < 200; count++) found.push(count * step);
  return [found, step];
}

function drawAxis(pen, from, to, x, width, height) {
  pen.fillStyle = colours.line;
  for (const tick of ticks(from, to, width)[0]) pen.fillRect(Math.round(x(tick)), AXIS - 4, 1, height - AXIS + 4);
}

function drawAxisLabels(pen, from, to, x, width) {
  const [found, step] = ticks(from, to, width);
  pen.fillStyle = colours.panel;
  pen.fillRect(0, 0, width, AXIS - 4);
  pen.fillStyle = colours.muted;
  const digits = (unit) => Math.min(6, Math.max(0, -Math.floor(Math.log10(step / unit) + 1e-9)));
  for (const tick of found) {
    const text = to >= 2000 ? `${(tick / 1000).toFixed(digits(1000))} s` : `${tick.toFixed(digits(1))} ms`;
    const at = x(tick);
    pen.textAlign = at < 24 ? "left" : at > width - 24 ? "right" : "center";
    pen.fillText(text, Math.min(Math.max(at, 4), width - 4), 9);
  }
  pen.textAlign = "left";
}

function drawBar(pen, bar, x, width, height) {
  const { row } = bar;
  const y = topOf(bar);
  if (y + LANE < AXIS - 4 || y > height) return;
  const left = x(row.at);
  const right = Math.max(x(row.state === "running" ? now() : row.end), left + 1.5);
  if (right < 0 || left > width) return;
  const from = Math.max(left, -2);
  const room = Math.min(right, width + 2) - from;
  const isWide = room > 4;
  pen.fillStyle = colours[isWide ? `${row.state}-fill` : row.state];
  pen.globalAlpha = isWide || row.state === "failed" ? 1 : 0.5;
  pen.fillRect(from, y, room, LANE - 4);
  pen.globalAlpha = 1;
  if (isWide) {
    pen.fillStyle = colours[row.state];
    pen.fillRect(from, y, 2.5, LANE - 4);
    if (row.state === "failed") pen.fillRect(from, y + LANE - 6, room, 2);
  }
  if (row.id === selected) {
    pen.strokeStyle = colours.accent;
    pen.lineWidth = 2;
    pen.strokeRect(from - 1, y - 1, room + 2, LANE - 2);
  }
  if (room > 34) {
    pen.save();
    pen.beginPath();
    pen.rect(from, y, room - 4, LANE - 4);
    pen.clip();
    pen.fillStyle = colours.text;
    const sign = row.state === "failed" ? `${SIGNS.failed} ` : "";
    pen.fillText(`${sign}${row.name}`, from + 7, y + (LANE - 4) / 2 + 0.5);
    pen.restore();
  }
}

function barAt(event) {
  const box = canvas.getBoundingClientRect();
  const { from, to } = view || span();
  const x = (ms) => 10 + ((ms - from) / (to - from)) * (box.width - 20);
  const px = event.clientX - box.left;
  const py = event.clientY - box.top;
  if (py < AXIS - 4) return null;
  let best = null;
  for (const bar of bars) {
    const y = topOf(bar);
    if (py < y || py > y + LANE - 3) continue;
    const left = x(bar.row.at);
    const right = Math.max(x(bar.row.state === "running" ? now() : bar.row.end), left + 1.5);
    const away = px < left ? left - px : px > right ? px - right : 0;
    if (away <= 3 && (best === null || away <= best.away)) best = { bar, away };
  }
  return best && best.bar;
}

function zoom(factor, at = 0.5) {
  const all = span();
  const { from, to } = view || all;
  const length = Math.min((to - from) * factor, all.to - all.from);
  const pivot = from + (to - from) * at;
  look(pivot - length * at, length, all);
}

function look(from, length, all = span()) {
  const start = Math.min(Math.max(from, all.from), all.to - length);
  view = length >= all.to - all.from ? null : { from: start, to: start + length };
  drawTimeline();
}

function listenToTimeline() {
  let drag = null;
  canvas.addEventListener("pointerdown", (event) => {
    drag = { x: event.clientX, view: view || span(), moved: false };
  });
  canvas.addEventListener("pointermove", (event) => {
    if (drag && event.buttons & 1) {
      const shift = ((drag.x - event.clientX) / (canvas.clientWidth - 20)) * (drag.view.to - drag.view.from);
      drag.moved = drag.moved || Math.abs(drag.x - event.clientX) > 4;
      if (view && drag.moved) look(drag.view.from + shift, drag.view.to - drag.view.from);
    }
    showTip(event, barAt(event));
  });
  canvas.addEventListener("pointerup", (event) => {
    const bar = drag && !drag.moved && barAt(event);
    drag = null;
    if (bar) choose(ownerOf(bar), { open: true });
  });
  canvas.addEventListener("pointerleave", () => showTip(null, null));
  canvas.addEventListener(
    "wheel",
    (event) => {
      if (!event.ctrlKey && !event.shiftKey) return;
      event.preventDefault();
      const move = event.deltaY || event.deltaX;
      zoom(move > 0 ? 1.25 : 0.8, event.offsetX / canvas.clientWidth);
    },
    { passive: false },
  );
  timeline.addEventListener("scroll", drawTimeline);
  timeline.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (step) move(step);
    else if (event.key === "Enter") choose(selected, { open: true, focus: true });
    else if (event.key === "+") zoom(0.5);
    else if (event.key === "-") zoom(2);
    else return;
    event.preventDefault();
  });
  byId("zoom-in").addEventListener("click", () => zoom(0.5));
  byId("zoom-out").addEventListener("click", () => zoom(2));
  byId("zoom-fit").addEventListener("click", () => {
    view = null;
    drawTimeline();
  });
}

// In a comparison a bar of the second run may belong to a row of the first.
function ownerOf(bar) {
  if (!bar.side || bar.row.only === "b") return bar.row.id;
  return model.rows.find((row) => row.b === bar.row).id;
}

function showTip(event, bar) {
  const tip = byId("tip");
  tip.hidden = !bar;
  canvas.style.cursor = bar ? "pointer" : "default";
  if (!bar) return;
  const { row } = bar;
  const time = `${duration(lengthOf(row))} from ${duration(row.at)}`;
  tip.textContent = `${place(row)}  ${row.name} · ${WORDS[row.state]} · ${time}`;
  const left = Math.min(event.clientX + 12, window.innerWidth - tip.offsetWidth - 8);
  tip.style.left = `${Math.max(4, left)}px`;
  tip.style.top = `${event.clientY + 16}px`;
}
