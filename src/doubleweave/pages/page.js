"use strict";
// Whatever comes from the run is put into the page as text or as a number, never as markup.
(() => {
  const ROW = 30;
  const LANE = 21;
  const CAPTION = 17;
  const AXIS = 22;
  const LONGEST = 20000;
  const SIGNS = { ok: "✓", failed: "✕", skipped: "–", running: "●" };
  const WORDS = { ok: "ok", failed: "failed", skipped: "skipped", running: "running" };
  const OUTCOMES = { ok: "succeeded", failed: "failed", running: "running" };

  const byId = (id) => document.getElementById(id);
  const grid = byId("grid");
  const body = byId("body");
  const detail = byId("detail");
  const timeline = byId("timeline");
  const canvas = byId("canvas");
  const search = byId("search");
  const filter = byId("filter");
  const graphBox = byId("graph");

  let model = JSON.parse(byId("data").textContent);
  let positions = new Map();
  let shown = [];
  let selected = null;
  let opened = null;
  let detailOf = null;
  let order = { by: "place", down: false };
  let view = null;
  let bars = [];
  let lanes = [];
  let clock = null;
  let longest = 0.001;

  // --- small helpers ------------------------------------------------------------------------------------------------

  function el(tag, options, ...children) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(options || {})) {
      if (value === undefined || value === null || value === false) continue;
      if (typeof value === "function") node.addEventListener(name, value);
      else node.setAttribute(name, value);
    }
    node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
    return node;
  }

  function svg(tag, options, ...children) {
    const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(options || {})) node.setAttribute(name, value);
    node.append(...children);
    return node;
  }

  function duration(ms) {
    if (ms >= 60000) return `${Math.floor(ms / 60000)} min ${((ms % 60000) / 1000).toFixed(1)} s`;
    if (ms >= 1000) return `${(ms / 1000).toFixed(2)} s`;
    return `${ms.toFixed(ms < 10 ? 2 : ms < 100 ? 1 : 0)} ms`;
  }

  function signed(ms) {
    return `${ms < 0 ? "−" : "+"}${duration(Math.abs(ms))}`;
  }

  const moment = (iso) => iso.replace("T", " ").replace("+00:00", " UTC");
  const number = (value) => value.toLocaleString("en-US");
  const comparing = () => model.runs.length > 1;
  const isRunning = () => model.runs[0].state === "running";
  const now = () => (clock === null ? 0 : clock.at + performance.now() - clock.seen);
  const rowAt = (id) => model.rows[positions.get(id)];
  const lengthOf = (row) => (row.state === "running" ? Math.max(0, now() - row.at) : row.ms);
  const outcome = (state, words = WORDS) => [el("span", { class: `sign-${state}`, "aria-hidden": "true" }, SIGNS[state]), words[state]];

  function place(row) {
    if (row.check) return row.check;
    return row.id.replace("b:", "").split("/").map((part) => part.split("~")[0]).join(".");
  }

  let isScheduled = false;
  function schedule() {
    if (isScheduled) return;
    isScheduled = true;
    requestAnimationFrame(() => {
      isScheduled = false;
      refresh();
    });
  }

  // --- head ---------------------------------------------------------------------------------------------------------

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
    const found = comparing() ? [["Run", "AB"[side]], ["Flow", run.flow], ["Version", run.version]] : [];
    found.push(["Trace", run.trace, "mono"], ["Started", run.started && moment(run.started)], ["Ended", run.ended && moment(run.ended)]);
    const pairs = found.filter((fact) => fact[1]);
    return el("div", { class: "line" }, ...pairs.map(([name, text, kind]) =>
      el("div", {}, el("dt", {}, name), el("dd", { class: kind }, text))));
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
    const tile = (label, texts, note, isBad) => el("div", {}, el("dt", {}, label),
      el("dd", { class: isBad && "bad" }, texts.join(" → "), note && " ", note && el("small", {}, note)));
    const count = (label, key, isBad) =>
      tile(label, found.map((side) => number(side[key])), null, isBad && found.some((side) => side[key] > 0));
    const length = ({ run }) => duration(run.state === "running" ? now() : run.ms || 0);
    const inner = a.inner && !b ? `+ ${number(a.inner)} in sub-flows` : null;
    const of = isRunning() && a.run.total !== undefined ? `of ${number(a.run.total)}` : inner;
    const tiles = [
      tile("Duration", found.map(length)),
      tile("Steps", found.map((side) => number(side.steps)), of),
      count("Failed", "failed", true),
      count("Skipped", "skipped"),
      count("Retries", "retries"),
      count("Cached", "cached"),
      count("Fallbacks", "fallbacks"),
    ];
    const costs = found.map((side) => side.run.cost).filter(Boolean);
    if (costs.length) tiles.push(tile("Cost saved", costs.map((cost) => `$${cost.usd.toFixed(4)}`), "estimate"));
    return tiles;
  }

  function showTrouble(text, ...more) {
    byId("trouble").hidden = !text;
    byId("trouble").replaceChildren(text || "", ...more);
  }

  // --- timeline -----------------------------------------------------------------------------------------------------

  // A heap of numbers or pairs, least first.
  function heap(before) {
    const items = [];
    const swap = (i, j) => ([items[i], items[j]] = [items[j], items[i]]);
    return {
      get size() { return items.length; },
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
          for (let at = 0; ; ) {
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
    for (const name of ["text", "muted", "line", "panel", "accent", "sunk"]) colours[name] = style.getPropertyValue(`--${name}`).trim();
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
      for (const bar of bars) if ((bar.row.state === "failed" || bar.row.id === selected) === isLast) drawBar(pen, bar, x, width, height);
    }
    if (comparing()) drawCaptions(pen);
    drawAxisLabels(pen, from, to, x, width);
  }

  const topOf = ({ lane, side }) => AXIS + 3 + lane * LANE + (comparing() ? (side + 1) * CAPTION : 0) - timeline.scrollTop;

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
    canvas.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && !event.shiftKey) return;
      event.preventDefault();
      const move = event.deltaY || event.deltaX;
      zoom(move > 0 ? 1.25 : 0.8, event.offsetX / canvas.clientWidth);
    }, { passive: false });
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
    byId("zoom-fit").addEventListener("click", () => { view = null; drawTimeline(); });
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
    tip.textContent = `${place(row)}  ${row.name} · ${WORDS[row.state]} · ${duration(lengthOf(row))} from ${duration(row.at)}`;
    const left = Math.min(event.clientX + 12, window.innerWidth - tip.offsetWidth - 8);
    tip.style.left = `${Math.max(4, left)}px`;
    tip.style.top = `${event.clientY + 16}px`;
  }

  // --- graph --------------------------------------------------------------------------------------------------------

  function edgeIsTaken(edge) {
    const row = rowAt(edge.to);
    const from = rowAt(edge.from);
    return Boolean(row && from) && !isIdle(row) && !isIdle(from);
  }

  function drawGraph() {
    byId("graph-panel").hidden = !model.graph;
    byId("graph-of").textContent = comparing() ? "of run A" : "";
    if (!model.graph || !byId("graph-panel").open) return;
    const { width, height, nodes, edges } = model.graph;
    const box = {
      left: graphBox.scrollLeft - 200, right: graphBox.scrollLeft + graphBox.clientWidth + 200,
      top: graphBox.scrollTop - 200, bottom: graphBox.scrollTop + graphBox.clientHeight + 200,
    };
    const isNear = (left, top, right, bottom) => right >= box.left && left <= box.right && bottom >= box.top && top <= box.bottom;
    let drawing = graphBox.firstElementChild;
    if (!drawing) {
      drawing = svg("svg", { width, height, viewBox: `0 0 ${width} ${height}` });
      graphBox.append(drawing);
    }
    const marker = svg("marker", { id: "tip-of-edge", viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 7, markerHeight: 7, orient: "auto" },
      svg("path", { d: "M0,0.5 L8,4 L0,7.5 z", class: "head-mark" }));
    const parts = [svg("defs", {}, marker)];
    for (const edge of edges) {
      const xs = edge.points.map((point) => point[0]);
      const ys = edge.points.map((point) => point[1]);
      if (!isNear(Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys))) continue;
      const kind = edgeIsTaken(edge) ? "" : "edge-idle";
      parts.push(svg("path", { d: curve(edge.points), class: `edge ${kind}`, "marker-end": "url(#tip-of-edge)" }));
      if (edge.label) parts.push(...drawLabel(edge.label, kind));
    }
    for (const node of nodes) {
      if (isNear(node.x, node.y, node.x + node.width, node.y + node.height)) parts.push(drawNode(node));
    }
    drawing.replaceChildren(...parts);
  }

  // Where a way goes both across and up or down there is room for a bend.
  function curve(points) {
    return points.map(([x, y], at) => {
      if (at === 0) return `M${x},${y}`;
      const [fromX, fromY] = points[at - 1];
      const middle = (fromX + x) / 2;
      return fromX === x || fromY === y ? `L${x},${y}` : `C${middle},${fromY} ${middle},${y} ${x},${y}`;
    }).join(" ");
  }

  function write(text, x, y, room, kind = "") {
    const fits = Math.floor(room / (kind ? 6.2 : 7));
    const node = svg("text", { x, y, "text-anchor": "middle", class: kind });
    node.textContent = text.length > fits ? `${text.slice(0, fits - 1)}…` : text;
    return node;
  }

  function titled(node, text) {
    const title = svg("title");
    title.textContent = text;
    node.append(title);
    return node;
  }

  function drawLabel({ text, x, y, width, height }, kind) {
    const back = svg("rect", { x, y, width, height, class: "label-back" });
    return [back, titled(write(text, x + width / 2, y + height / 2 + 4, width, `label ${kind && "label-idle"}`), text)];
  }

  function drawNode(node) {
    const row = rowAt(node.id);
    const middle = node.x + node.width / 2;
    const room = node.width - 12;
    const lines = [[node.label, ""], node.sub && [node.sub, "sub"], (row || !isRunning()) && [timeOf(row), "time"]].filter(Boolean);
    const first = node.y + node.height / 2 + 4 - (lines.length - 1) * 7.5;
    const group = svg("g", { class: `node ${row ? `node-${row.state}` : ""} ${node.id === selected ? "node-selected" : ""}` },
      svg("rect", { x: node.x, y: node.y, width: node.width, height: node.height, rx: 5 }),
      ...lines.map(([text, kind], at) => write(text, middle, first + at * 15, room, kind)));
    if (row) group.addEventListener("click", () => choose(node.id, { open: true }));
    return titled(group, [node.label, node.sub].filter(Boolean).join(" · "));
  }

  function timeOf(row) {
    if (!row) return "not run";
    if (isIdle(row)) return `${SIGNS.skipped} skipped`;
    const retries = row.retries ? ` · ${row.retries === 1 ? "1 retry" : `${row.retries} retries`}` : "";
    return `${SIGNS[row.state]} ${duration(lengthOf(row))}${retries}`;
  }

  function showInGraph() {
    const node = model.graph && model.graph.nodes.find((each) => each.id === selected);
    if (!node) return;
    const isSeen = (start, length, from, size) => start >= from && start + length <= from + size;
    if (!isSeen(node.x, node.width, graphBox.scrollLeft, graphBox.clientWidth)) graphBox.scrollLeft = node.x - graphBox.clientWidth / 2;
    if (!isSeen(node.y, node.height, graphBox.scrollTop, graphBox.clientHeight)) graphBox.scrollTop = node.y - graphBox.clientHeight / 2;
  }

  // --- table --------------------------------------------------------------------------------------------------------

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
      name === "running" ? model.live : !["different", "only"].includes(name) || comparing());
    filter.replaceChildren(...names.map((name) => el("option", { value: name }, FILTERS[name][0])));
  }

  // Searched texts are kept, for they are put together of all that a row has.
  const texts = new WeakMap();
  function textOf(row) {
    if (!texts.has(row)) {
      const error = row.error || {};
      const parts = [place(row), row.name, row.state, row.fallback, error.type, error.code, error.message, row.inputs, row.outputs];
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
    plain: [["#", "place"], ["Step", "name"], ["Outcome"], ["Start", "at", "number wide start"], ["Duration", "ms", "length"], ["Notes", null, "wide"], ["Output", null, "wide output"]],
    compared: [["#", "place"], ["Step", "name"], ["Outcome", null, "wide both"], ["A", "ms", "number"], ["B", "b", "number"], ["Change", "change", "number wide"], ["Differences", null, "wide"]],
  };

  function drawColumns() {
    byId("columns").replaceChildren(...COLUMNS[comparing() ? "compared" : "plain"].map(([label, by, kind]) => {
      const sorted = by && order.by === by ? (order.down ? "descending" : "ascending") : null;
      const mark = sorted ? (order.down ? " ↓" : " ↑") : "";
      const inside = by ? el("button", { type: "button", click: () => sort(by) }, label + mark) : label;
      return el("div", { role: "columnheader", class: kind || "", "aria-sort": sorted }, inside);
    }));
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
    const node = el("div", {
      role: "row", id: `row-${row.id}`, class: `row ${isSelected ? "selected" : ""}`,
      "aria-rowindex": at + 2, "aria-selected": String(isSelected),
    }, comparing() ? comparedCells(row) : cells(row));
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
      cell("duration", el("span", { class: "number" }, isIdle(row) ? "" : duration(length)), el("div", { class: "meter" }, meter)),
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
    const differences = row.only ? `only in ${row.only.toUpperCase()}` : (row.diff || []).map((each) => each.path).join(", ");
    return [
      cell("place", place(row)),
      nameCell(row),
      cell("wide both", ...chips.filter(Boolean)),
      ...[a, b].map((each) => cell("number", !each ? "–" : isIdle(each) ? "skipped" : duration(each.ms))),
      cell(`number wide ${change > 0 ? "slower" : change < 0 ? "faster" : ""}`, change === null ? "" : signed(change)),
      cell("wide", differences || el("span", { class: "muted" }, "same")),
    ];
  }

  // --- choosing and opening -----------------------------------------------------------------------------------------

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
    el("div", { class: "detail-head" }, detailTitle,
      el("button", { type: "button", "aria-label": "Previous step", click: () => move(-1) }, "↑"),
      el("button", { type: "button", "aria-label": "Next step", click: () => move(1) }, "↓"),
      closeButton),
    detailBody);

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
    const more = el("button", { type: "button", click: () => { box.textContent = text; more.remove(); } },
      `Show all ${number(text.length)} characters`);
    return el("div", {}, box, more);
  }

  const definition = (pairs) =>
    el("dl", { class: "detail-facts" }, ...pairs.filter((pair) => pair[1]).flatMap(([name, text]) => [el("dt", {}, name), el("dd", {}, text)]));

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
      ...(cost ? section("Cost (estimate)", definition([
        ["Saved", `$${cost.usd.toFixed(6)}`],
        ["Calls avoided", number(cost.calls)],
        ["Latency saved", duration(cost.ms)],
        ["Steps counted", number(cost.steps)],
        ["Priced against", cost.model && `${cost.model} as of ${cost.asOf}`],
      ])) : []),
    ];
  }

  function stepDetail(row) {
    const b = row.b;
    const both = [row, b];
    return [
      el("div", {}, row.only ? el("span", { class: "chip chip-note" }, `only in ${row.only.toUpperCase()}`) : null, " ", stateChip(row), " ",
        b && b.state !== row.state ? stateChip(b) : null),
      definition([
        ["Started", `+${duration(row.at)}`],
        ["Duration", b ? `A ${duration(row.ms)}, B ${duration(b.ms)} (${signed(b.ms - row.ms)})` : duration(lengthOf(row))],
        ["Retries", row.retries && String(row.retries)],
        ["Retries in B", b && b.retries && String(b.retries)],
        ["Cache", row.cached && "output from the cache"],
        ["Fallback", row.fallback && `ran ${row.fallback} instead`],
        ["Sub-flow", row.flow],
        ["Trace", row.trace],
      ]),
      ...both.flatMap((each, at) => (each && each.error ? fault(each, b ? ` in ${"AB"[at]}` : "") : [])),
      ...differences(row),
      ...both.flatMap((each) => (each && each.retries ? section("Failed attempts",
        el("ol", { class: "list" }, ...(each.retryErrors || []).map((text) => el("li", {}, text)))) : [])),
      ...branches(row),
      ...(row.decision ? section("Decision", value(row.decision)) : []),
      ...(row.approval ? section("Approval", value(row.approval)) : []),
      ...inPairs("Inputs", (at) => value(both[at].inputs), b),
      ...inPairs(row.state === "running" && row.partial ? "Outputs so far" : "Outputs", (at) => value(both[at].outputs || both[at].partial), b),
    ];
  }

  function fault(row, where) {
    const { type, code, message } = row.error;
    const step = row.check ? `the check of the flow's ${row.check}` : `step ${place(row)}`;
    return section(`Error${where}`, el("div", { class: "fault" },
      el("strong", {}, [code, type].filter(Boolean).join(" ")),
      el("div", { class: "where" }, `at ${step}, ${row.check ? "flow" : "tool"} ${row.name}`),
      el("pre", {}, message)));
  }

  function differences(row) {
    if (!row.b) return [];
    if (!row.diff.length) return section("Differences", el("p", { class: "muted" }, "none but in time"));
    return section("Differences", ...row.diff.map((each) => el("div", { class: "difference" }, el("code", {}, each.path),
      "a" in each ? el("div", { class: "pair" }, value(each.a), value(each.b)) : null)));
  }

  function branches(row) {
    const node = model.graph && model.graph.nodes.find((each) => each.id === row.id);
    if (!node || !node.branches) return [];
    const isTaken = (id) => rowAt(id) && !isIdle(rowAt(id));
    return section("Branches", el("ul", { class: "list" }, ...node.branches.map((branch) => el("li", {},
      branch.predicate ? el("code", { class: "mono" }, branch.predicate) : "otherwise", ` → ${branch.label}`,
      isTaken(branch.id) ? el("strong", {}, " taken") : el("span", { class: "muted" }, " not taken")))));
  }

  // --- keyboard and other input -------------------------------------------------------------------------------------

  function onGridKey(event) {
    if (event.target !== grid && event.target !== document.body) return;
    const page = Math.max(1, Math.floor(grid.clientHeight / ROW) - 2);
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity };
    if (event.key in steps) {
      if (event.target !== grid) grid.focus({ preventScroll: true });
      move(steps[event.key]);
    } else if (event.key === "Enter" || (event.key === " " && event.target === grid)) {
      choose(selected, { open: true, focus: true });
    } else {
      return;
    }
    event.preventDefault();
  }

  function onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const isTyping = event.target.matches("input, select");
    if (event.key === "/" && !isTyping) {
      search.focus();
      search.select();
    } else if (event.key === "Escape" && event.target === search) {
      search.value = "";
      applyFilter();
      grid.focus();
    } else if (event.key === "Escape" && opened !== null) {
      closeDetail();
    } else if ((event.key === "ArrowDown" || event.key === "Enter") && event.target === search) {
      grid.focus();
      if (shown.length) choose(shown[0].id);
    } else if (detail.contains(event.target) && ["ArrowLeft", "ArrowRight"].includes(event.key)) {
      move(event.key === "ArrowLeft" ? -1 : 1);
    } else {
      onGridKey(event);
      return;
    }
    event.preventDefault();
  }

  function applyFilter() {
    filterRows();
    grid.scrollTop = 0;
    drawRows();
  }

  function listen() {
    document.addEventListener("keydown", onKey);
    grid.addEventListener("scroll", drawRows);
    // By the height of the pointer and without `click`, for a row may be drawn anew while a button is held on it.
    let pressed = null;
    body.addEventListener("pointerdown", (event) => { pressed = event.clientY; });
    body.addEventListener("pointercancel", () => { pressed = null; });
    body.addEventListener("pointerup", (event) => {
      const row = shown[Math.floor((event.clientY - body.getBoundingClientRect().top) / ROW)];
      if (row && pressed !== null && Math.abs(event.clientY - pressed) < 6) choose(row.id, { open: true });
      pressed = null;
    });
    grid.addEventListener("focus", () => {
      if (selected === null && shown.length && pressed === null) choose(shown[0].id);
    });
    search.addEventListener("input", applyFilter);
    filter.addEventListener("change", applyFilter);
    byId("open-run").addEventListener("click", () => openDetail("run", true));
    byId("graph-panel").addEventListener("toggle", drawGraph);
    graphBox.addEventListener("scroll", drawGraph);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => { readColours(); drawTimeline(); });
    new ResizeObserver(() => { drawTimeline(); drawRows(); drawGraph(); }).observe(byId("timeline-space"));
    new ResizeObserver(drawRows).observe(grid);
    listenToTimeline();
  }

  // --- what happens in a run that goes on ---------------------------------------------------------------------------

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
    model = { ...model, ...end };
    index();
    fillFilter();
    if (opened !== null && opened !== "run" && !positions.has(opened)) closeDetail();
    detailOf = null;
    showTrouble(end.trouble);
    schedule();
  }

  function follow() {
    const source = new EventSource("events");
    const on = (name, take) => source.addEventListener(name, (event) => take(JSON.parse(event.data)));
    source.addEventListener("open", () => showTrouble(null));
    source.addEventListener("error", () => {
      const isOver = source.readyState === EventSource.CLOSED;
      showTrouble(isOver ? "The program that showed this run has ended." : "No connection to the run; trying again.");
    });
    on("clock", (at) => { clock = { at, seen: performance.now() }; });
    on("run", (run) => { model.runs[0] = { ...model.runs[0], ...run }; schedule(); });
    on("row", takeRow);
    on("chunk", takeChunk);
    on("end", (end) => { source.close(); clearInterval(ticking); takeEnd(end); });
    const ticking = setInterval(schedule, 250);
  }

  function index() {
    positions = new Map(model.rows.map((row, at) => [row.id, at]));
  }

  function refresh() {
    drawHead();
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
  showTrouble(model.trouble);
  if (model.live) follow();
})();
