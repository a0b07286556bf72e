// The head: names, times, totals, and what went wrong.

function drawHead() {
  const run = model.runs[0];
  byId("flow").textContent = run.flow;
  byId("version").textContent = run.version ? `v${run.version}` : "";
  const chip = byId("outcome");
  const states = model.runs.map((each) => each.state);
  const text = comparing() ? `A ${OUTCOMES[states[0]]}, B ${OUTCOMES[states[1]]}` : OUTCOMES[run.state];
  if (chip.dataset.text !== text) {
    const worst = states.includes("failed") ? "failed" : run.state;
    chip.dataset.text = text;
    chip.className = `chip chip-${worst}`;
    chip.replaceChildren(el("span", { class: `sign-${worst}`, "aria-hidden": "true" }, SIGNS[worst]), text);
  }
  byId("dry").hidden = !run.dryRun;
  byId("facts").replaceChildren(...model.runs.map(facts));
  byId("totals").replaceChildren(...totals());
  byId("footer").textContent = model.product;
}

function facts(run, side) {
  const found = comparing()
    ? [
        ["Run", "AB"[side]],
        ["Flow", run.flow],
        ["Version", run.version],
      ]
    : [];
  found.push(
    ["Trace", run.trace, "mono"],
    ["Started", run.started && moment(run.started)],
    ["Ended", run.ended && moment(run.ended)],
  );
  const pairs = found.filter((fact) => fact[1]);
  return el(
    "div",
    { class: "line" },
    ...pairs.map(([name, text, kind]) => el("div", {}, el("dt", {}, name), el("dd", { class: kind }, text))),
  );
}

function sums(of) {
  const found = { steps: 0, inner: 0, failed: 0, skipped: 0, retries: 0, cached: 0, fallbacks: 0 };
  for (const each of model.rows) {
    const row = of(each);
    if (!row) continue;
    if (!row.check) found[row.depth ? "inner" : "steps"] += row.state === "running" ? 0 : 1;
    if (row.state === "failed") found.failed += 1;
    if (row.state === "skipped") found.skipped += 1;
    if (row.cached) found.cached += 1;
    if (row.fallback) found.fallbacks += 1;
    found.retries += row.retries || 0;
  }
  return found;
}

const SIDES = [(row) => row.only !== "b" && row, (row) => (row.only === "b" ? row : row.b)];

function totals() {
  const found = model.runs.map((run, side) => ({ run, ...sums(SIDES[side]) }));
  const [a, b] = found;
  const tile = (label, texts, note, isBad) =>
    el(
      "div",
      {},
      el("dt", {}, label),
      el("dd", { class: isBad && "bad" }, texts.join(" → "), note && " ", note && el("small", {}, note)),
    );
  const count = (label, key, isBad) =>
    tile(
      label,
      found.map((side) => number(side[key])),
      null,
      isBad && found.some((side) => side[key] > 0),
    );
  const length = ({ run }) => duration(run.state === "running" ? now() : run.ms || 0);
  const inner = a.inner && !b ? `+ ${number(a.inner)} in sub-flows` : null;
  const of = isRunning() && a.run.total !== undefined ? `of ${number(a.run.total)}` : inner;
  const tiles = [
    tile("Duration", found.map(length)),
    tile(
      "Steps",
      found.map((side) => number(side.steps)),
      of,
    ),
    count("Failed", "failed", true),
    count("Skipped", "skipped"),
    count("Retries", "retries"),
    count("Cached", "cached"),
    count("Fallbacks", "fallbacks"),
  ];
  const costs = found.map((side) => side.run.cost).filter(Boolean);
  if (costs.length)
    tiles.push(
      tile(
        "Cost saved, est.",
        costs.map((cost) => `$${cost.usd.toFixed(4)}`),
      ),
    );
  return tiles;
}

// The worst that is to be said of the run, once.
function drawTrouble() {
  const failed = isRunning() ? [] : model.rows.filter((row) => row.state === "failed");
  const [text, row] = model.connection || model.trouble ? [model.connection || model.trouble] : firstFailure(failed);
  const trouble = byId("trouble");
  if (trouble.dataset.text === (text || "")) return;
  trouble.dataset.text = text || "";
  trouble.hidden = !text;
  const show =
    row && el("button", { type: "button", click: () => choose(row.id, { open: true, focus: true }) }, "Show");
  trouble.replaceChildren(text || "", " ", show || "");
}

function firstFailure(failed) {
  // The step of a sub-flow says more than the step that ran the sub-flow.
  const row = failed.find((each) => !each.flow) || failed[0];
  if (!row || comparing()) return [null, null];
  const { code, type, message } = row.error || {};
  const where = row.check
    ? `The ${row.check} of the flow failed its check`
    : `Failed at step ${place(row)}, ${row.name}`;
  const others = failed.length > 1 ? ` (${number(failed.length)} failed in all)` : "";
  const short = message && message.length > 300 ? `${message.slice(0, 300)}…` : message;
  return [`${where}: ${[code, type].filter(Boolean).join(" ")}. ${short || ""}${others}`, row];
}
