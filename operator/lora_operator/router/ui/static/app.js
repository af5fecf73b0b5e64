// Puts the page together: what is known, what of it is asked for, and where it is shown.

import { byId } from "./dom.js";
import { Details } from "./details.js";
import { Feed } from "./feed.js";
import { Filters, Order } from "./filters.js";
import { Matrix } from "./matrix.js";
import { Model, problemsOf } from "./model.js";
import { clock, seconds } from "./numbers.js";
import { Problems } from "./problems.js";
import { Strip } from "./strip.js";
import { startTheme } from "./theme.js";
import { showTotals } from "./totals.js";

const LEAST_MS = 60; // between two drawings; more where one takes long

const model = new Model();
const order = new Order();
const feed = new Feed(model, changed);
const filters = new Filters(() => draw());
const matrix = new Matrix(choose);
const strip = new Strip(choose);
const details = new Details(choose);
const problems = new Problems(chooseProblem);
let derived = { rows: new Map(), columns: new Map() };
let found = [];
let view = { rows: [], columns: [], problems: [] };
let chosen = { row: null, column: null };
let born = new Map(); // cells by when they were first seen, for those that came while we looked
let waiting = null;
let stale = false;

function changed(what) {
  if (what === "link") showLink();
  else {
    stale = true;
    waiting ??= setTimeout(refresh, LEAST_MS);
  }
}

function refresh() {
  const began = performance.now();
  if (stale) {
    stale = false;
    const before = derived;
    derived = model.derive();
    found = problemsOf(model, derived);
    order.follow(derived);
    filters.offer(derived);
    noteBorn(before, derived);
  }
  draw();
  const took = performance.now() - began;
  // leave half of the time to whoever scrolls
  setTimeout(() => {
    waiting = null;
    if (stale) changed("model");
  }, took);
}

function noteBorn(before, after) {
  const now = performance.now();
  for (const [key, at] of born) if (now - at > 5000) born.delete(key);
  if (before.rows.size === 0) return;
  for (const row of after.rows.values()) {
    const old = before.rows.get(row.key);
    for (const [key, cell] of row.cells) {
      if (cell.state === "loaded" && old?.cells.get(key)?.state !== "loaded") born.set(`${row.key} ${key}`, now);
    }
  }
}

function draw() {
  view = filters.apply(derived, found, order);
  showTotals(view);
  matrix.show(view, born);
  strip.show(view.columns, matrix.overflows, chosen.column);
  problems.show(view.problems, filters.active ? "Nothing that passes the filters." : "Everything has its place.");
  details.show(derived.rows.get(chosen.row), derived.columns.get(chosen.column));
  const empty = byId("empty");
  empty.hidden = view.rows.length > 0 || feed.state === "connecting";
  empty.textContent = derived.rows.size ? "No adapter passes the filters. Esc clears them." : "There are no LoraAdapters yet.";
  byId("corner").textContent = `${view.rows.length.toLocaleString("en-GB")} × ${view.columns.length.toLocaleString("en-GB")}`;
}

function choose(row, column) {
  chosen = { row, column };
  matrix.mark(row, column);
  if (row !== null || column !== null) matrix.reveal(row, column);
  draw();
}

function chooseProblem(one) {
  const key = `${one.namespace}/${one.name}`;
  if (one.kind === "pod") choose(null, key);
  else choose(key, null);
}

function showLink() {
  const words = {
    connecting: () => "connecting",
    live: () => "live",
    away: () => "API server does not answer",
    lost: () => `disconnected since ${clock(feed.lostAt)}: ${feed.trouble}`,
  };
  const text = words[feed.state]();
  const link = byId("link");
  if (link.dataset.link !== feed.state) link.dataset.link = feed.state;
  document.body.dataset.link = feed.state;
  if (byId("link-text").textContent !== text) {
    byId("link-text").textContent = text;
    link.title = text;
  }
  const age = feed.ageSeconds(performance.now());
  byId("age").textContent = age === null ? "" : `table ${seconds(age)} old`;
}

document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  if (chosen.row !== null || chosen.column !== null) choose(null, null);
  else if (filters.active) {
    filters.clear();
    draw();
  }
});

startTheme();
feed.start();
setInterval(showLink, 1000);
