"use strict";
// The page without this script is complete but for sorting, filtering, and the runs behind a row or a cell.
// Texts of drawings are then set closer instead of with narrower letters.

const data = JSON.parse(document.getElementById("data").textContent);
const SVG = "http://www.w3.org/2000/svg";
const MISSING = "--";

// An element with attributes and children. Texts become text nodes: nothing from a record is ever parsed as HTML.
function make(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

function draw(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children.filter((child) => child !== null));
  return element;
}

// --- Drawings ------------------------------------------------------------------------------------------------------

// Texts have the width of the font that they were laid out in.
for (const text of document.querySelectorAll("text[textLength]")) text.setAttribute("lengthAdjust", "spacingAndGlyphs");

// --- Sorting -------------------------------------------------------------------------------------------------------

// What a cell is sorted by: a number if it has one, else its text; null for a missing value, which is always last.
function sortValue(cell) {
  if (cell.dataset.v !== undefined) return Number(cell.dataset.v);
  const text = cell.textContent.trim();
  if (text === MISSING || text === "") return null;
  const found = /^[+-]?\d[\d,]*(\.\d+)?(e[+-]?\d+)?/.exec(text);
  return found && cell.tagName === "TD" ? Number(found[0].replaceAll(",", "")) : text;
}

function compare(one, other) {
  if (typeof one === "number" && typeof other === "number") return one - other;
  return String(one).localeCompare(String(other), "en", { numeric: true });
}

function sortRows(body, column, direction) {
  const rows = [...body.rows];
  rows.forEach((row, place) => { row.dataset.place ??= place; });
  const byPlace = (one, other) => one.dataset.place - other.dataset.place;
  if (direction === "none") {
    body.append(...rows.sort(byPlace));
    return;
  }
  const sign = direction === "ascending" ? 1 : -1;
  const keyed = rows.map((row) => [sortValue(row.cells[column]), row]);
  keyed.sort(([one, row], [other, next]) => {
    if (one === null || other === null) return (one === null) - (other === null) || byPlace(row, next);
    return sign * compare(one, other) || byPlace(row, next);
  });
  body.append(...keyed.map(([, row]) => row));
}

// Ascending, descending, and as it was.
function sortBy(button) {
  const head = button.closest("th");
  const next = { none: "ascending", ascending: "descending", descending: "none" }[head.ariaSort];
  for (const other of head.parentElement.cells) other.ariaSort = "none";
  head.ariaSort = next;
  for (const body of head.closest("table").tBodies) sortRows(body, head.cellIndex, next);
}

// --- Filtering -----------------------------------------------------------------------------------------------------

const filter = document.getElementById("filter");
const chosenVerdict = document.getElementById("verdict");
// Tables with a row per method; others, such as that of the environments, are not filtered.
const rows = [...document.querySelectorAll("main tbody tr[data-rows], main .chips li")].map((element) => {
  const indices = (element.dataset.rows ?? element.firstElementChild.dataset.rows).split(" ");
  const name = element.querySelector("button").textContent.toLowerCase();
  return { element, name, verdicts: indices.map((index) => verdictOf(data.rows[index])) };
});

// Its verdict without the number that may follow it.
function verdictOf(row) {
  return (row.verdict ?? "").replace(/ \(.*/, "");
}

function offerVerdicts() {
  const known = new Set(data.rows.map(verdictOf));
  known.delete("");
  for (const verdict of [...known].sort()) chosenVerdict.append(make("option", {}, verdict));
}

function applyFilter() {
  const words = filter.value.toLowerCase().split(/\s+/).filter((word) => word && word !== "-");
  const matches = (name) => words.every((word) => (word[0] === "-" ? !name.includes(word.slice(1)) : name.includes(word)));
  const verdict = chosenVerdict.value;
  let shown = 0;
  for (const row of rows) {
    const fits = matches(row.name) && (!verdict || row.verdicts.includes(verdict));
    row.element.hidden = !fits;
    shown += fits && row.element.tagName === "TR";
  }
  for (const table of document.querySelectorAll("main table")) {
    const some = [...table.tBodies].some((body) => [...body.rows].some((row) => !row.hidden));
    table.closest(".table").querySelector(".none").hidden = some;
  }
  const all = rows.filter((row) => row.element.tagName === "TR").length;
  document.getElementById("count").textContent = words.length || verdict ? `${shown} of ${all} rows of the tables match.` : "";
}

// --- Runs behind a row or a cell -----------------------------------------------------------------------------------

const dialog = document.getElementById("runs");

// The rows that an element is about: its row of a table, or its column where tasks are the rows.
function rowsBehind(element) {
  const own = element.closest("[data-rows]");
  if (own) return own.dataset.rows;
  const cell = element.closest("td");
  const heads = cell?.closest("table").querySelector(".heads");
  return heads?.cells[cell.cellIndex]?.dataset.rows;
}

function showRuns(element) {
  const indices = rowsBehind(element);
  if (!indices) return false;
  const shown = indices.split(" ").map((index) => data.rows[index]);
  const close = make("button", { type: "button" }, "Close");
  close.addEventListener("click", () => dialog.close());
  const title = make("div", { class: "title" }, make("h2", { id: "runs-title" }, shown[0].label), close);
  const parts = shown.map((row) => sectionOf(row));
  dialog.replaceChildren(title, make("div", { class: "inside" }, whatWasSelected(element), ...parts));
  dialog.showModal();
  dialog.scrollTop = 0;
  return true;
}

// The cell that was selected, with its column and its footnotes.
function whatWasSelected(element) {
  const cell = element.closest("td");
  if (!cell) return null;
  const table = cell.closest("table");
  const head = table.querySelector(".heads").cells[cell.cellIndex].querySelector("button").textContent;
  const text = cell.cloneNode(true);
  const marks = [...text.querySelectorAll("sup")].flatMap((mark) => mark.textContent.split(","));
  text.querySelectorAll("sup").forEach((mark) => mark.remove());
  const notes = [...table.closest(".table").querySelectorAll(".notes li")]
    .filter((note) => marks.includes(note.firstElementChild.textContent))
    .map((note) => note.lastChild.textContent.trim());
  const task = cell.parentElement.dataset.rows ? "" : `, ${cell.parentElement.cells[0].textContent}`;
  return make("p", {}, `${table.caption.textContent}${task}, ${head}: `, make("b", {}, text.textContent.trim()), ...notes.map((note) => `; ${note}`));
}

function sectionOf(row) {
  const problem = data.problems[row.problem];
  const runs = row.runs.map((index) => data.runs[index]);
  const facts = [row.score && `${problem.overall}: ${row.score}`, row.verdict && `verdict: ${row.verdict}`].filter(Boolean).join("; ");
  const notes = (row.notes ?? []).map((note) => make("li", {}, note));
  const missing = row.missing ? make("p", {}, make("span", { class: "badge" }, `not run: seed ${row.missing.join(", ")}`)) : null;
  const section = make(
    "section", {},
    make("h3", {}, problem.label),
    make("p", { class: "facts" }, facts),
    notes.length ? make("ul", { class: "facts" }, ...notes) : null,
    missing,
  );
  const lines = new Map();
  const chart = chartOf(problem, runs, lines);
  if (chart) section.append(chart, make("p", { class: "key" }, `${problem.curve} of each seed; a dot marks the selected epoch${runs.some((run) => run.status !== "done") ? ", dashes a run that did not finish" : ""}.`));
  section.append(runsTable(problem, runs, lines), ...machinesOf(runs), ...settingsOf(problem, runs));
  return section;
}

// The first letters of a commit's hash tell it from all others.
function shortened(text) {
  return text.replace(/\b[0-9a-f]{20,}\b/, (hash) => hash.slice(0, 10));
}

// A table cell; a long text may break into lines.
function cellOf(content, left = false) {
  const names = [left && "l", left && content.length > 40 && "long"].filter(Boolean);
  return make("td", names.length ? { class: names.join(" ") } : {}, content);
}

function lineOf(problem, run, withReason) {
  const scores = run.scores?.split(" ") ?? problem.metrics.map(() => MISSING);
  const epoch = run.epoch ? `${run.epoch} of ${run.epochs}` : `${MISSING} of ${run.epochs ?? 0}`;
  const status = run.status === "done" ? "done" : make("span", { class: "badge" }, run.status);
  const commit = shortened(data.machines[run.machine].Commit ?? MISSING);
  const reason = [run.reason, run.remark].filter(Boolean).join("; ");
  return make(
    "tr", {},
    make("th", { scope: "row" }, String(run.seed)),
    cellOf(status, true),
    cellOf(commit, true),
    ...[epoch, run.overall, ...scores, run.seconds ?? MISSING].map((text) => cellOf(String(text))),
    withReason ? cellOf(reason, true) : null,
  );
}

function runsTable(problem, runs, lines) {
  const withReason = runs.some((run) => run.reason || run.remark);
  const names = ["Seed", "Status", "Commit", "Epoch", problem.overall, ...problem.metrics, "Seconds", ...(withReason ? ["Reason"] : [])];
  const heads = names.map((name) => {
    const side = ["Seed", "Status", "Commit", "Reason"].includes(name) ? "l" : "";
    return make("th", { scope: "col", "aria-sort": "none", class: side }, make("button", { type: "button", class: "sort" }, name));
  });
  const body = make("tbody");
  for (const run of runs) {
    const line = lineOf(problem, run, withReason);
    const curve = lines.get(run);
    if (curve) {
      line.addEventListener("pointerenter", () => curve.classList.add("chosen"));
      line.addEventListener("pointerleave", () => curve.classList.remove("chosen"));
    }
    body.append(line);
  }
  const caption = make("caption", {}, "Runs, with scores on test");
  const table = make("table", {}, caption, make("thead", {}, make("tr", { class: "heads" }, ...heads)), body);
  return make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Runs, scrolls" }, table);
}

// Where the runs were trained: a line for each distinct machine.
function machinesOf(runs) {
  return [...new Set(runs.map((run) => run.machine))].map((place) => {
    const seeds = runs.filter((run) => run.machine === place).map((run) => run.seed);
    const parts = Object.entries(data.machines[place]).map(([name, value]) => `${name} ${shortened(value)}`);
    return make("p", { class: "facts" }, `Seed ${seeds.join(", ")}: ${parts.join(", ")}`);
  });
}

// The settings of the runs: those that differ between rows of the problem, then those that all share.
function settingsOf(problem, runs) {
  const distinct = [...new Set(runs.map((run) => run.settings))];
  const own = distinct.map((place) => {
    const seeds = runs.filter((run) => run.settings === place).map((run) => run.seed).join(", ");
    const title = distinct.length > 1 ? `Settings of its own, seed ${seeds}` : "Settings of its own";
    return make("details", { open: "" }, make("summary", {}, title), listOf(data.settings[place]));
  });
  return [...own, make("details", {}, make("summary", {}, "Settings that all runs of this problem share"), listOf(problem.settings ?? {}))];
}

function listOf(settings) {
  const names = Object.keys(settings).sort();
  if (!names.length) return make("p", { class: "facts" }, "None.");
  return make("dl", {}, ...names.flatMap((name) => [make("dt", {}, name), make("dd", {}, settings[name])]));
}

// --- Learning curves -----------------------------------------------------------------------------------------------

const WIDTH = 480;
const HEIGHT = 210;
const EDGE = { left: 48, right: 10, top: 10, bottom: 32 };

// Round numbers between two values, about as many as asked for.
function ticks(low, high, count) {
  const rough = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((factor) => factor * power >= rough);
  const found = [];
  for (let place = Math.ceil(low / step); place * step <= high + step * 1e-9; place += 1) found.push(Number((place * step).toPrecision(10)));
  return found;
}

// The curves of runs, with each run's line in `lines`; null if there are none.
function chartOf(problem, runs, lines) {
  const drawn = runs.filter((run) => run.curve?.some((score) => score !== null));
  if (!drawn.length) return null;
  const epochs = (run) => run.at ?? run.curve.map((_, place) => place + 1);
  const scores = drawn.flatMap((run) => run.curve.filter((score) => score !== null));
  const last = Math.max(2, ...drawn.map((run) => epochs(run).at(-1)));
  const [low, high] = [Math.min(...scores), Math.max(...scores)];
  const x = (epoch) => EDGE.left + ((epoch - 1) / (last - 1)) * (WIDTH - EDGE.left - EDGE.right);
  const y = (score) => HEIGHT - EDGE.bottom - ((score - low) / (high - low || 1)) * (HEIGHT - EDGE.top - EDGE.bottom);
  const chart = draw("svg", { class: "chart", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": `${problem.curve} over epochs, ${drawn.length} runs, from ${low} to ${high}` });
  for (const score of ticks(low, high, 4)) {
    chart.append(draw("path", { class: "grid", d: `M${EDGE.left} ${y(score)}H${WIDTH - EDGE.right}` }), draw("text", { x: EDGE.left - 6, y: y(score) + 4, "text-anchor": "end" }, String(score)));
  }
  for (const epoch of ticks(1, last, 6).filter(Number.isInteger)) chart.append(draw("text", { x: x(epoch), y: HEIGHT - 16, "text-anchor": "middle" }, String(epoch)));
  chart.append(draw("text", { x: (WIDTH + EDGE.left) / 2, y: HEIGHT - 2, "text-anchor": "middle" }, "Epoch"));
  for (const run of drawn) {
    const at = epochs(run);
    let pen = "M";
    const path = run.curve.map((score, place) => {
      if (score === null) { pen = "M"; return ""; }
      const part = `${pen}${x(at[place]).toFixed(1)} ${y(score).toFixed(1)}`;
      pen = "L";
      return part;
    });
    const line = draw("path", { d: path.join(""), class: run.status === "done" ? "" : "unfinished" });
    lines.set(run, line);
    chart.append(line);
    const nearest = at.reduce((best, epoch, place) => (Math.abs(epoch - run.epoch) < Math.abs(at[best] - run.epoch) ? place : best), 0);
    if (run.epoch && run.curve[nearest] !== null) chart.append(draw("circle", { cx: x(run.epoch), cy: y(run.curve[nearest]), r: 3 }));
  }
  return chart;
}

// --- Keys, theme, print --------------------------------------------------------------------------------------------

const STEPS = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };

// Arrow keys move between the cells of a table that have runs, and Enter shows them.
function moveOrOpen(event) {
  const cell = event.target.closest("tbody td, tbody th");
  if (!cell || !cell.closest("main")) return;
  if (event.key === "Enter" && cell === event.target) {
    event.preventDefault();
    showRuns(cell);
    return;
  }
  const step = STEPS[event.key];
  if (!step) return;
  const shown = [...cell.closest("table").rows].filter((row) => !row.hidden && row.closest("tbody"));
  const row = shown[shown.indexOf(cell.parentElement) + step[0]];
  const next = row?.cells[cell.cellIndex + step[1]];
  if (!next) return;
  event.preventDefault();
  const target = next.querySelector("button") ?? next;
  if (target === next) next.tabIndex = -1;
  target.focus();
}

const theme = document.getElementById("theme");
const prefersDark = matchMedia("(prefers-color-scheme: dark)");

function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : prefersDark.matches;
}

function showTheme() {
  theme.setAttribute("aria-pressed", String(isDark()));
}

function switchTheme() {
  document.documentElement.dataset.theme = isDark() ? "light" : "dark";
  try { localStorage.setItem("theme", document.documentElement.dataset.theme); } catch { /* a browser may forbid it */ }
  showTheme();
}

function earlierTheme() {
  try { return localStorage.getItem("theme"); } catch { return null; }
}

// On paper, everything is open; afterwards, what was closed is closed again.
let opened = [];
addEventListener("beforeprint", () => {
  opened = [...document.querySelectorAll("main details:not([open])")];
  for (const details of opened) details.open = true;
});
addEventListener("afterprint", () => {
  for (const details of opened) details.open = false;
});

// A click that ends the selection of text is none on a cell.
function isCell(element) {
  return element.closest("main tbody td") && getSelection().isCollapsed;
}

document.addEventListener("click", (event) => {
  if (event.target === dialog) dialog.close();
  const button = event.target.closest("button");
  if (button?.matches(".sort")) sortBy(button);
  else if (button === theme) switchTheme();
  else if (button?.matches(".open, .chip") || (!button && isCell(event.target))) showRuns(event.target);
});
document.addEventListener("keydown", moveOrOpen);
document.getElementById("tools").addEventListener("submit", (event) => event.preventDefault());
filter.addEventListener("input", applyFilter);
chosenVerdict.addEventListener("change", applyFilter);
prefersDark.addEventListener("change", showTheme);
if (earlierTheme()) document.documentElement.dataset.theme = earlierTheme();
offerVerdicts();
showTheme();
