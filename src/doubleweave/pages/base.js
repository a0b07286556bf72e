// What all parts of the page use: its data, what is chosen, and how to make elements. All parts are one function.
// Whatever comes from the run is put into the page as text or as a number, never as markup.

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
const outcome = (state, words = WORDS) => [
  el("span", { class: `sign-${state}`, "aria-hidden": "true" }, SIGNS[state]),
  words[state],
];

function place(row) {
  if (row.check) return row.check;
  return row.id
    .replace("b:", "")
    .split("/")
    .map((part) => part.split("~")[0])
    .join(".");
}

let isScheduled = false;
let cost = 0;
// A page that takes long to draw is drawn less often, so that it can be used meanwhile.
function schedule() {
  if (isScheduled) return;
  isScheduled = true;
  setTimeout(
    () =>
      requestAnimationFrame(() => {
        const began = performance.now();
        isScheduled = false;
        refresh();
        cost = performance.now() - began;
      }),
    Math.min(4 * cost, 500),
  );
}
