// Choosing a step, and the panel that shows all of it.

function choose(id, { open = false, focus = false } = {}) {
  if (id === null || !positions.has(id)) return;
  selected = id;
  const at = shown.findIndex((row) => row.id === id);
  if (at >= 0) reveal(at);
  if (open || (opened !== null && opened !== "run")) openDetail(id, focus);
  else drawSelection();
}

function drawSelection() {
  drawRows();
  drawTimeline();
  showInGraph();
  drawGraph();
}

function reveal(at) {
  const room = grid.clientHeight - byId("columns").offsetHeight;
  if (at * ROW < grid.scrollTop) grid.scrollTop = at * ROW;
  else if ((at + 1) * ROW > grid.scrollTop + room) grid.scrollTop = (at + 1) * ROW - room;
}

function move(step) {
  if (!shown.length) return;
  const at = shown.findIndex((row) => row.id === selected);
  const next = at < 0 ? (step > 0 ? 0 : shown.length - 1) : Math.min(Math.max(at + step, 0), shown.length - 1);
  choose(shown[next].id);
}

const closeButton = el("button", { type: "button", "aria-label": "Close", click: () => closeDetail() }, "✕");
const detailTitle = el("h2", { id: "detail-title" });
const detailBody = el("div", {});
detail.append(
  el(
    "div",
    { class: "detail-head" },
    detailTitle,
    el("button", { type: "button", "aria-label": "Previous step", click: () => move(-1) }, "↑"),
    el("button", { type: "button", "aria-label": "Next step", click: () => move(1) }, "↓"),
    closeButton,
  ),
  detailBody,
);

function openDetail(id, focus) {
  opened = id;
  detail.hidden = false;
  document.querySelector(".split").classList.add("opened");
  drawDetail();
  drawSelection();
  if (focus) detail.focus();
}

function closeDetail() {
  opened = null;
  detailOf = null;
  detail.hidden = true;
  document.querySelector(".split").classList.remove("opened");
  drawSelection();
  grid.focus({ preventScroll: true });
}

function drawDetail() {
  if (opened === null) return;
  const thing = opened === "run" ? model.runs[0] : rowAt(opened);
  // What has not changed keeps its place, its focus and what is marked in it.
  if (!thing || thing === detailOf) return;
  const isOther = !detailOf || detailOf.id !== thing.id;
  detailOf = thing;
  detailTitle.textContent = opened === "run" ? "The run" : `${place(thing)}  ${thing.name}`;
  detailBody.replaceChildren(...(opened === "run" ? runDetail() : stepDetail(thing)));
  if (isOther) detail.scrollTop = 0;
}

function value(text) {
  if (text === undefined || text === null) return el("p", { class: "muted" }, "none");
  const box = el("pre", { class: "value", tabindex: "0" }, text.slice(0, LONGEST));
  if (text.length <= LONGEST) return box;
  const more = el(
    "button",
    {
      type: "button",
      click: () => {
        box.textContent = text;
        more.remove();
      },
    },
    `Show all ${number(text.length)} characters`,
  );
  return el("div", {}, box, more);
}

const definition = (pairs) =>
  el(
    "dl",
    { class: "detail-facts" },
    ...pairs.filter((pair) => pair[1]).flatMap(([name, text]) => [el("dt", {}, name), el("dd", {}, text)]),
  );

const section = (title, ...inside) => [el("h3", {}, title), ...inside];

function inPairs(title, of, b) {
  if (!b) return section(title, of(0));
  const side = (at) => el("div", {}, el("span", { class: "side" }, "AB"[at]), of(at));
  return section(title, el("div", { class: "pair" }, side(0), side(1)));
}

function runDetail() {
  const runs = model.runs;
  const cost = runs[0].cost;
  return [
    ...inPairs("Input", (at) => value(runs[at].inputs), runs[1]),
    ...inPairs("Output", (at) => value(runs[at].outputs), runs[1]),
    ...(cost
      ? section(
          "Cost (estimate)",
          definition([
            ["Saved", `$${cost.usd.toFixed(6)}`],
            ["Calls avoided", number(cost.calls)],
            ["Latency saved", duration(cost.ms)],
            ["Steps counted", number(cost.steps)],
            ["Priced against", cost.model && `${cost.model} as of ${cost.asOf}`],
          ]),
        )
      : []),
  ];
}

function stepDetail(row) {
  const b = row.b;
  const both = [row, b];
  return [
    el(
      "div",
      {},
      row.only ? el("span", { class: "chip chip-note" }, `only in ${row.only.toUpperCase()}`) : null,
      " ",
      stateChip(row),
      " ",
      b && b.state !== row.state ? stateChip(b) : null,
    ),
    definition([
      ["Started", `+${duration(row.at)}`],
      [
        "Duration",
        b ? `A ${duration(row.ms)}, B ${duration(b.ms)} (${signed(b.ms - row.ms)})` : duration(lengthOf(row)),
      ],
      ["Retries", row.retries && String(row.retries)],
      ["Retries in B", b && b.retries && String(b.retries)],
      ["Cache", row.cached && "output from the cache"],
      ["Fallback", row.fallback && `ran ${row.fallback} instead`],
      ["Sub-flow", row.flow],
      ["Trace", row.trace],
    ]),
    ...both.flatMap((each, at) => (each && each.error ? fault(each, b ? ` in ${"AB"[at]}` : "") : [])),
    ...differences(row),
    ...both.flatMap((each) =>
      each && each.retries
        ? section(
            "Failed attempts",
            el("ol", { class: "list" }, ...(each.retryErrors || []).map((text) => el("li", {}, text))),
          )
        : [],
    ),
    ...branches(row),
    ...(row.decision ? section("Decision", value(row.decision)) : []),
    ...(row.approval ? section("Approval", value(row.approval)) : []),
    ...inPairs("Inputs", (at) => value(both[at].inputs), b),
    ...inPairs(
      row.state === "running" && row.partial ? "Outputs so far" : "Outputs",
      (at) => value(both[at].outputs || both[at].partial),
      b,
    ),
  ];
}

function fault(row, where) {
  const { type, code, message } = row.error;
  const step = row.check ? `the check of the flow's ${row.check}` : `step ${place(row)}`;
  return section(
    `Error${where}`,
    el(
      "div",
      { class: "fault" },
      el("strong", {}, [code, type].filter(Boolean).join(" ")),
      el("div", { class: "where" }, `at ${step}, ${row.check ? "flow" : "tool"} ${row.name}`),
      el("pre", {}, message),
    ),
  );
}

function differences(row) {
  if (!row.b) return [];
  if (!row.diff.length) return section("Differences", el("p", { class: "muted" }, "none but in time"));
  return section(
    "Differences",
    ...row.diff.map((each) =>
      el(
        "div",
        { class: "difference" },
        el("code", {}, each.path),
        "a" in each ? el("div", { class: "pair" }, value(each.a), value(each.b)) : null,
      ),
    ),
  );
}

function branches(row) {
  const node = model.graph && model.graph.nodes.find((each) => each.id === row.id);
  if (!node || !node.branches) return [];
  const isTaken = (id) => rowAt(id) && !isIdle(rowAt(id));
  return section(
    "Branches",
    el(
      "ul",
      { class: "list" },
      ...node.branches.map((branch) =>
        el(
          "li",
          {},
          branch.predicate ? el("code", { class: "mono" }, branch.predicate) : "otherwise",
          ` → ${branch.label}`,
          isTaken(branch.id) ? el("strong", {}, " taken") : el("span", { class: "muted" }, " not taken"),
        ),
      ),
    ),
  );
}
