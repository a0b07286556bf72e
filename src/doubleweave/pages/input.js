// Keys, pointer and fields.

function onGridKey(event) {
  if (event.target !== grid && event.target !== document.body) return;
  const page = Math.max(1, Math.floor(grid.clientHeight / ROW) - 2);
  const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -Infinity, End: Infinity };
  if (event.key in steps) {
    move(steps[event.key]);
    if (event.target !== grid) grid.focus({ preventScroll: true });
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
  body.addEventListener("pointerdown", (event) => {
    pressed = event.clientY;
  });
  body.addEventListener("pointercancel", () => {
    pressed = null;
  });
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
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
    readColours();
    drawTimeline();
  });
  new ResizeObserver(() => {
    drawTimeline();
    drawRows();
    drawGraph();
  }).observe(byId("timeline-space"));
  new ResizeObserver(drawRows).observe(grid);
  listenToTimeline();
}
