// The table of steps: elements for the rows in view.

const FILTERS = {
  all: ["All steps", () => true],
  failed: ["Failed", (row) => row.state === "failed" || (row.b && row.b.state === "failed")],
  skipped: ["Skipped", (row) => row.state === "skipped"],
  retried: ["Retried", (row) => row.retries || (row.b && row.b.retries)],
  cached: ["Cached", (row) => row.cached],
  fallback: ["Fallback", (row) => row.fallback],
  running: ["Running", (row) => row.state === "running"],
  different: ["Different", (row) => row.only || (row.diff && row.diff.length > 0)],
  only: ["In one run alone", (row) => row.only],
};

function fillFilter() {
  const names = Object.keys(FILTERS).filter((name) =>
    name === "running" ? model.live : !["different", "only"].includes(name) || comparing(),
  );
  const chosen = names.includes(filter.value) ? filter.value : "all";
  filter.replaceChildren(...names.map((name) => el("option", { value: name }, FILTERS[name][0])));
  filter.value = chosen;
}

// Searched texts are kept, for they are put together of all that a row has.
const texts = new WeakMap();
function textOf(row) {
  if (!texts.has(row)) {
    const error = row.error || {};
    const parts = [
      place(row),
      row.name,
      row.state,
      row.fallback,
      error.type,
      error.code,
      error.message,
      row.inputs,
      row.outputs,
    ];
    const all = parts.concat(row.retryErrors || [], row.b ? textOf(row.b) : []);
    texts.set(row, all.filter(Boolean).join("\n").toLowerCase());
  }
  return texts.get(row);
}

const KEYS = {
  place: null,
  name: (row) => row.name.toLowerCase(),
  at: (row) => row.at,
  ms: (row) => lengthOf(row),
  b: (row) => (row.b ? row.b.ms : row.only === "b" ? row.ms : -1),
  change: (row) => (row.b ? row.b.ms - row.ms : 0),
};

function filterRows() {
  const wanted = search.value.trim().toLowerCase();
  const fits = (FILTERS[filter.value] || FILTERS.all)[1];
  shown = model.rows.filter((row) => fits(row) && (!wanted || textOf(row).includes(wanted)));
  const key = KEYS[order.by];
  if (key) {
    const keyed = shown.map((row) => [key(row), row]);
    keyed.sort((a, b) => (a[0] < b[0] ? -1 : a[0] > b[0] ? 1 : 0));
    shown = keyed.map((pair) => pair[1]);
  }
  if (order.down) shown.reverse();
  longest = model.rows.reduce((most, row) => Math.max(most, lengthOf(row)), 0.001);
  const count = model.rows.length;
  byId("count").textContent = shown.length === count ? number(count) : `${number(shown.length)} of ${number(count)}`;
  byId("empty").hidden = shown.length > 0 || count === 0;
  grid.setAttribute("aria-rowcount", shown.length + 1);
  body.style.height = `${shown.length * ROW}px`;
}

const COLUMNS = {
  plain: [
    ["#", "place"],
    ["Step", "name"],
    ["Outcome"],
    ["Start", "at", "number wide start"],
    ["Duration", "ms", "length"],
    ["Notes", null, "wide"],
    ["Output", null, "wide output"],
  ],
  compared: [
    ["#", "place"],
    ["Step", "name"],
    ["Outcome", null, "wide both"],
    ["A", "ms", "number"],
    ["B", "b", "number"],
    ["Change", "change", "number wide"],
    ["Differences", null, "wide"],
  ],
};

function drawColumns() {
  byId("columns").replaceChildren(
    ...COLUMNS[comparing() ? "compared" : "plain"].map(([label, by, kind]) => {
      const sorted = by && order.by === by ? (order.down ? "descending" : "ascending") : null;
      const mark = sorted ? (order.down ? " ↓" : " ↑") : "";
      const inside = by ? el("button", { type: "button", click: () => sort(by) }, label + mark) : label;
      return el("div", { role: "columnheader", class: kind || "", "aria-sort": sorted }, inside);
    }),
  );
}

function sort(by) {
  order = { by, down: order.by === by ? !order.down : by !== "place" && by !== "name" };
  filterRows();
  drawColumns();
  drawRows();
  [...byId("columns").querySelectorAll("button")].find((button) => button.textContent.match(/[↑↓]$/)).focus();
}

function drawRows() {
  const top = grid.scrollTop;
  const first = Math.max(0, Math.floor(top / ROW) - 6);
  const last = Math.min(shown.length, Math.ceil((top + grid.clientHeight) / ROW) + 6);
  const nodes = [];
  for (let at = first; at < last; at++) nodes.push(drawRow(shown[at], at));
  body.replaceChildren(...nodes);
  const isThere = selected !== null && nodes.some((node) => node.id === `row-${selected}`);
  if (isThere) grid.setAttribute("aria-activedescendant", `row-${selected}`);
  else grid.removeAttribute("aria-activedescendant");
}

function drawRow(row, at) {
  const isSelected = row.id === selected;
  const node = el(
    "div",
    {
      role: "row",
      id: `row-${row.id}`,
      class: `row ${isSelected ? "selected" : ""}`,
      "aria-rowindex": at + 2,
      "aria-selected": String(isSelected),
    },
    comparing() ? comparedCells(row) : cells(row),
  );
  node.style.transform = `translateY(${at * ROW}px)`;
  return node;
}

const cell = (kind, ...inside) => el("div", { role: "gridcell", class: kind }, ...inside);

function nameCell(row) {
  const node = cell("mono", row.name);
  node.style.paddingLeft = `${Math.min(row.depth, 8) * 14}px`;
  node.title = row.name;
  return node;
}

function stateChip(row) {
  return el("span", { class: `chip chip-${row.state}` }, outcome(row.state));
}

function cells(row) {
  const length = lengthOf(row);
  const meter = el("i", { class: `of-${row.state}` });
  meter.style.transform = `scaleX(${Math.min(1, length / longest)})`;
  return [
    cell("place", place(row)),
    nameCell(row),
    cell("", stateChip(row)),
    cell("number wide start", `+${duration(row.at)}`),
    cell(
      "duration",
      el("span", { class: "number" }, isIdle(row) ? "" : duration(length)),
      el("div", { class: "meter" }, meter),
    ),
    cell("wide", notes(row).join(" · ")),
    cell("wide output mono muted", glance(row)),
  ];
}

const isIdle = (row) => row.state === "skipped" && !row.error && row.ms === 0;

function notes(row) {
  const found = [];
  if (row.retries) found.push(row.retries === 1 ? "1 retry" : `${row.retries} retries`);
  if (row.cached) found.push("cached");
  if (row.fallback) found.push("fallback");
  if (row.flow) found.push("sub-flow");
  if (row.decision) found.push("decided");
  if (row.approval) found.push("approval");
  return found;
}

function glance(row) {
  if (row.error) return [row.error.code, row.error.type].filter(Boolean).join(" ");
  const text = row.outputs || row.partial || "";
  return text.slice(0, 400).replace(/\s+/g, " ").slice(0, 160);
}

function comparedCells(row) {
  const [a, b] = [row.only === "b" ? null : row, row.only === "b" ? row : row.b];
  const change = a && b && !isIdle(a) && !isIdle(b) ? b.ms - a.ms : null;
  const chips = a && b && a.state === b.state ? [stateChip(a)] : [a && stateChip(a), b && stateChip(b)];
  const differences = row.only
    ? `only in ${row.only.toUpperCase()}`
    : (row.diff || []).map((each) => each.path).join(", ");
  return [
    cell("place", place(row)),
    nameCell(row),
    cell("wide both", ...chips.filter(Boolean)),
    ...[a, b].map((each) => cell("number", !each ? "–" : isIdle(each) ? "skipped" : duration(each.ms))),
    cell(`number wide ${change > 0 ? "slower" : change < 0 ? "faster" : ""}`, change === null ? "" : signed(change)),
    cell("wide", differences || el("span", { class: "muted" }, "same")),
  ];
}
