// The graph: SVG elements for what is in view.

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
    left: graphBox.scrollLeft - 200,
    right: graphBox.scrollLeft + graphBox.clientWidth + 200,
    top: graphBox.scrollTop - 200,
    bottom: graphBox.scrollTop + graphBox.clientHeight + 200,
  };
  const isNear = (left, top, right, bottom) =>
    right >= box.left && left <= box.right && bottom >= box.top && top <= box.bottom;
  let drawing = graphBox.firstElementChild;
  if (!drawing) {
    drawing = svg("svg", { width, height, viewBox: `0 0 ${width} ${height}` });
    graphBox.append(drawing);
  }
  const marker = svg(
    "marker",
    { id: "tip-of-edge", viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 7, markerHeight: 7, orient: "auto" },
    svg("path", { d: "M0,0.5 L8,4 L0,7.5 z", class: "head-mark" }),
  );
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
  return points
    .map(([x, y], at) => {
      if (at === 0) return `M${x},${y}`;
      const [fromX, fromY] = points[at - 1];
      const middle = (fromX + x) / 2;
      return fromX === x || fromY === y ? `L${x},${y}` : `C${middle},${fromY} ${middle},${y} ${x},${y}`;
    })
    .join(" ");
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
  const lines = [
    [node.label, ""],
    node.sub && [node.sub, "sub"],
    (row || !isRunning()) && [timeOf(row), "time"],
  ].filter(Boolean);
  const first = node.y + node.height / 2 + 4 - (lines.length - 1) * 7.5;
  const group = svg(
    "g",
    { class: `node ${row ? `node-${row.state}` : ""} ${node.id === selected ? "node-selected" : ""}` },
    svg("rect", { x: node.x, y: node.y, width: node.width, height: node.height, rx: 5 }),
    ...lines.map(([text, kind], at) => write(text, middle, first + at * 15, room, kind)),
  );
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
  if (!isSeen(node.x, node.width, graphBox.scrollLeft, graphBox.clientWidth))
    graphBox.scrollLeft = node.x - graphBox.clientWidth / 2;
  if (!isSeen(node.y, node.height, graphBox.scrollTop, graphBox.clientHeight))
    graphBox.scrollTop = node.y - graphBox.clientHeight / 2;
}
