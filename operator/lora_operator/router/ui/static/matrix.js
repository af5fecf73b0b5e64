// Adapters by pods. Only what is in sight is in the document, so that 10,000 by 1,000 scrolls like 10 by 3.

import { bar, byId, el } from "./dom.js";
import { cellWords, podWords, rowWords, stateWord } from "./words.js";
import { bytes } from "./numbers.js";

const SIDE = 300; // px
const SMALL_SIDE = 172; // where there is little room
const NEW_MS = 1600;
const NAME_LENGTH = 15; // characters that a name along a column has room for

// Sizes in px: a wide column has its pod's name across; in the others it is along, and the heading as high as it needs.
const SIZES = [
  { name: "wide", column: 150, least: 118, row: 30, head: 92 },
  { name: "middle", column: 44, least: 30, row: 26, head: 76, character: 7.2 },
  { name: "narrow", column: 22, least: 22, row: 22, head: 76, character: 6.8 },
];

export class Matrix {
  // `choose(rowKey, columnKey)`: somebody wants to know more; either may be null.
  constructor(choose) {
    this.scroller = byId("matrix");
    this.parts = { head: this.scroller.querySelector(".head"), body: this.scroller.querySelector(".body"), columns: byId("columns"), side: byId("side"), cells: byId("cells"), cursor: byId("cursor"), tip: byId("tip") };
    this.choose = choose;
    this.view = { rows: [], columns: [] };
    this.size = SIZES[0];
    this.width = SIZES[0].column;
    this.side = SIDE;
    this.at = { row: 0, column: 0 };
    this.nodes = new Map(); // key -> node, of all kinds
    this.chosen = { row: null, column: null };
    this.scroller.addEventListener("scroll", () => this.#later(), { passive: true });
    new ResizeObserver(() => this.#layout()).observe(this.scroller);
    this.scroller.addEventListener("click", (event) => this.#click(event));
    this.scroller.addEventListener("pointermove", (event) => this.#hover(event));
    this.scroller.addEventListener("pointerleave", () => (this.parts.tip.hidden = true));
    this.scroller.addEventListener("keydown", (event) => this.#key(event));
    this.scroller.addEventListener("focus", () => this.#moved(false));
    this.scroller.addEventListener("blur", () => (this.parts.cursor.hidden = true));
  }

  show(view, born) {
    this.view = view;
    this.born = born;
    this.groups = grouped(view.columns);
    this.places = new Map(view.columns.map((column, index) => [column.key, index]));
    this.scroller.setAttribute("aria-rowcount", String(view.rows.length + 1));
    this.scroller.setAttribute("aria-colcount", String(view.columns.length + 1));
    this.#layout();
  }

  mark(row, column) {
    this.chosen = { row, column };
    this.#draw();
  }

  // Bring a row or column into sight.
  reveal(rowKey, columnKey) {
    const row = this.view.rows.findIndex((one) => one.key === rowKey);
    const column = columnKey === null ? -1 : (this.places?.get(columnKey) ?? -1);
    this.at = { row: row < 0 ? this.at.row : row, column: column < 0 ? this.at.column : column };
    this.#scrollTo(row, column);
  }

  #layout() {
    const count = this.view.columns.length;
    this.side = this.scroller.clientWidth < 640 ? SMALL_SIDE : SIDE;
    this.scroller.dataset.small = String(this.side < SIDE);
    const room = this.scroller.clientWidth - this.side;
    this.size = SIZES.find((one) => count * one.least <= room) ?? SIZES.at(-1);
    this.width = Math.max(this.size.least, Math.min(this.size.column, Math.floor(room / Math.max(count, 1))));
    const { row, name } = this.size;
    const longest = this.view.columns.reduce((most, one) => Math.max(most, one.name.length), 0);
    const head = (this.head = this.size.head + Math.round((this.size.character ?? 0) * (Math.min(longest, NAME_LENGTH) + 2)));
    const total = { width: this.side + count * this.width, height: this.view.rows.length * row };
    this.overflows = count * this.width > room;
    this.scroller.dataset.size = name;
    for (const [property, value] of [["--side", this.side], ["--column", this.width], ["--row", row], ["--head", head], ["--all-columns", count * this.width], ["--width", total.width], ["--height", total.height]]) {
      this.scroller.style.setProperty(property, `${value}px`);
    }
    this.at.row = Math.min(this.at.row, Math.max(this.view.rows.length - 1, 0));
    this.at.column = Math.min(this.at.column, Math.max(count - 1, 0));
    this.#draw();
  }

  #later() {
    this.parts.tip.hidden = true;
    this.frame ??= requestAnimationFrame(() => {
      this.frame = undefined;
      this.#draw();
    });
  }

  // Indices of what is in sight, with a few more on each side.
  #sight() {
    const { scrollTop, scrollLeft, clientHeight, clientWidth } = this.scroller;
    const span = (from, length, size, count) => [Math.max(Math.floor(from / size) - 3, 0), Math.min(Math.ceil((from + length) / size) + 3, count)];
    const rows = span(scrollTop, clientHeight, this.size.row, this.view.rows.length);
    return { rows, columns: span(scrollLeft, clientWidth - this.side, this.width, this.view.columns.length) };
  }

  #draw() {
    const { rows, columns } = this.view;
    const sight = this.#sight();
    const used = new Set();
    const now = performance.now();
    if (this.size.name !== "wide") this.#groups(used, sight.columns);
    for (let at = sight.columns[0]; at < sight.columns[1]; at += 1) {
      const column = columns[at];
      const last = at === 0 ? null : columns[at - 1].model;
      this.#put(used, this.parts.columns, `c ${column.key}`, at * this.width, 0, () => this.#column(column, last !== column.model), `${this.size.name} ${this.chosen.column === column.key} ${last !== column.model} ${column.state} ${column.usedBytes} ${column.memoryBytes} ${column.usedSlots} ${column.hostSlots} ${column.problems.length} ${column.model}`);
    }
    for (let at = sight.rows[0]; at < sight.rows[1]; at += 1) {
      const row = rows[at];
      const top = at * this.size.row;
      this.#put(used, this.parts.side, `r ${row.key}`, 0, top, () => this.#row(row), `${this.chosen.row === row.key} ${row.state} ${row.loaded}/${row.wanted} ${row.bytes}`);
      for (const [key, cell] of row.cells) {
        const place = this.places.get(key);
        if (place === undefined || place < sight.columns[0] || place >= sight.columns[1]) continue;
        const name = `x ${row.key} ${key}`;
        const fresh = now - (this.born?.get(`${row.key} ${key}`) ?? -Infinity) < NEW_MS;
        this.#put(used, this.parts.cells, name, place * this.width, top, () => this.#cell(row, key, cell, fresh), `${this.size.name} ${fresh} ${cell.state} ${cell.why} ${cell.percent} ${cell.updating} ${row.rank}`);
      }
    }
    for (const [key, kept] of this.nodes) {
      if (!used.has(key)) {
        kept.node.remove();
        this.nodes.delete(key);
      }
    }
    this.#cursor();
  }

  // The base models over the columns of their pods.
  #groups(used, [from, to]) {
    for (const { model, first, count } of this.groups) {
      if (first >= to || first + count <= from) continue;
      const make = () => {
        const node = el("div", { class: "group" }, el("span", { text: model || "no base model" }));
        node.style.width = `${count * this.width}px`;
        return node;
      };
      this.#put(used, this.parts.columns, `g ${model} ${first}`, first * this.width, 0, make, `${count} ${this.width}`);
    }
  }

  // Keep a node for as long as what it shows stays the same; move it where it belongs.
  #put(used, parent, key, left, top, make, shows) {
    used.add(key);
    let kept = this.nodes.get(key);
    if (!kept || kept.shows !== shows) {
      const node = make();
      if (kept) kept.node.replaceWith(node);
      else parent.append(node);
      kept = { node, shows, left: null, top: null };
      this.nodes.set(key, kept);
    }
    if (kept.left !== left || kept.top !== top) {
      kept.node.style.transform = `translate(${left}px, ${top}px)`;
      kept.left = left;
      kept.top = top;
    }
  }

  #column(column, first) {
    const wide = this.size.name === "wide";
    const state = column.problems.length ? "Wrong" : column.state;
    return el("div", { class: "column", data: { pod: column.key, state, first: String(first), chosen: String(this.chosen.column === column.key) } },
      el("span", { class: "name", text: wide ? column.name : short(column.name) }),
      wide ? el("span", { class: "sub", text: column.model.slice(column.model.lastIndexOf("/") + 1) }) : null,
      el("span", { class: "bars" }, bar("memory", column.usedBytes, column.memoryBytes), bar("slots", column.usedSlots, column.hostSlots)),
      wide ? el("span", { class: "sub", text: `${bytes(column.usedBytes)}${column.memoryBytes === null ? "" : ` of ${bytes(column.memoryBytes)}`}` }) : null,
      wide ? el("span", { class: "sub", text: `${column.usedSlots} of ${column.hostSlots} slots` }) : null);
  }

  #row(row) {
    return el("div", { class: "adapter", data: { adapter: row.key, state: row.state, chosen: String(this.chosen.row === row.key) } },
      el("i", { class: `mark ${row.state}` }),
      el("span", { class: "name", text: row.name }),
      el("span", { class: "size", text: row.bytes === null ? "" : bytes(row.bytes) }),
      el("span", { class: "copies", text: row.wanted ? `${row.loaded}/${row.wanted}` : row.loaded || "–" }));
  }

  #cell(row, columnKey, cell, fresh) {
    const node = el("div", { class: `cell ${cell.state}`, data: { adapter: row.key, pod: columnKey, state: cell.state, fresh: String(fresh), updating: String(Boolean(cell.updating)) } });
    const inner = el("i");
    if (cell.percent) inner.style.setProperty("--percent", `${cell.percent}%`);
    if (this.size.name === "wide") inner.textContent = cell.state === "loaded" ? (cell.updating ? "new version" : row.rank === null ? "" : `rank ${row.rank}`) : cell.percent ? `${cell.percent} %` : stateWord(cell);
    node.append(inner);
    return node;
  }

  #cursor() {
    const { cursor } = this.parts;
    const { row, column } = this.at;
    const there = this.view.rows[row];
    const pod = this.view.columns[column];
    if (document.activeElement !== this.scroller || (!there && !pod)) {
      cursor.hidden = true;
      return;
    }
    const words = there && pod ? cellWords(there, pod) : there ? rowWords(there) : podWords(pod);
    cursor.hidden = false;
    cursor.dataset.side = String(column < 0);
    cursor.dataset.head = String(row < 0);
    cursor.style.width = `${column < 0 ? this.side : this.width}px`;
    cursor.style.height = `${row < 0 ? this.head : this.size.row}px`;
    const left = column < 0 ? this.scroller.scrollLeft : this.side + column * this.width;
    const top = row < 0 ? this.scroller.scrollTop - this.head : row * this.size.row;
    cursor.style.transform = `translate(${left}px, ${top}px)`;
    cursor.setAttribute("aria-label", words);
    cursor.setAttribute("aria-rowindex", String(row + 2));
    cursor.setAttribute("aria-colindex", String(column + 2));
  }

  #scrollTo(row, column) {
    const { scroller, size } = this;
    const room = { height: scroller.clientHeight - this.head, width: scroller.clientWidth - this.side };
    if (row >= 0) {
      const top = row * size.row;
      if (top < scroller.scrollTop) scroller.scrollTop = top;
      else if (top + size.row > scroller.scrollTop + room.height) scroller.scrollTop = top + size.row - room.height;
    }
    if (column >= 0) {
      const left = column * this.width;
      if (left < scroller.scrollLeft) scroller.scrollLeft = left;
      else if (left + this.width > scroller.scrollLeft + room.width) scroller.scrollLeft = left + this.width - room.width;
    }
  }

  #moved(scroll = true) {
    if (scroll) this.#scrollTo(this.at.row, this.at.column);
    this.#draw();
  }

  #key(event) {
    const page = Math.max(Math.floor((this.scroller.clientHeight - this.head) / this.size.row) - 1, 1);
    const rows = this.view.rows.length - 1;
    const columns = this.view.columns.length - 1;
    const far = event.ctrlKey || event.metaKey;
    const moves = {
      ArrowUp: () => (this.at.row -= 1), ArrowDown: () => (this.at.row += 1),
      ArrowLeft: () => (this.at.column -= 1), ArrowRight: () => (this.at.column += 1),
      PageUp: () => (this.at.row -= page), PageDown: () => (this.at.row += page),
      Home: () => (far ? (this.at = { row: 0, column: 0 }) : (this.at.column = 0)),
      End: () => (far ? (this.at = { row: rows, column: columns }) : (this.at.column = columns)),
    };
    if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      const { row, column } = this.at;
      this.choose(this.view.rows[row]?.key ?? null, this.view.columns[column]?.key ?? null);
    } else if (moves[event.key] && !event.altKey) {
      event.preventDefault();
      moves[event.key]();
      // -1 is the heading; the corner of both is nothing
      this.at.row = Math.max(Math.min(this.at.row, rows), this.at.column < 0 ? 0 : -1);
      this.at.column = Math.max(Math.min(this.at.column, columns), this.at.row < 0 ? 0 : -1);
      this.#moved();
    }
  }

  // Where in the matrix the pointer is; -1 in a heading.
  #place(event) {
    const box = this.scroller.getBoundingClientRect();
    const x = event.clientX - box.left - this.scroller.clientLeft;
    const y = event.clientY - box.top - this.scroller.clientTop;
    return {
      row: y < this.head ? -1 : Math.floor((y - this.head + this.scroller.scrollTop) / this.size.row),
      column: x < this.side ? -1 : Math.floor((x - this.side + this.scroller.scrollLeft) / this.width),
    };
  }

  #click(event) {
    const place = this.#place(event);
    const row = this.view.rows[place.row];
    const column = this.view.columns[place.column];
    if (!row && !column) return;
    this.at = place;
    this.choose(row?.key ?? null, column?.key ?? null);
    this.#draw();
  }

  #hover(event) {
    const { row, column } = this.#place(event);
    const there = this.view.rows[row];
    const pod = this.view.columns[column];
    const { tip, cells } = this.parts;
    cells.style.setProperty("--over-row", `${there ? row * this.size.row : -100}px`);
    cells.style.setProperty("--over-column", `${pod ? column * this.width : -1000}px`);
    tip.hidden = !(there ? (pod ? there.cells.has(pod.key) : true) : pod && row < 0);
    if (tip.hidden) return;
    tip.textContent = there && pod ? cellWords(there, pod) : there ? rowWords(there) : podWords(pod);
    const right = event.clientX + 340 > innerWidth;
    tip.style.transform = `translate(${right ? event.clientX - 12 : event.clientX + 14}px, ${Math.min(event.clientY + 16, innerHeight - 120)}px) translateX(${right ? "-100%" : "0"})`;
  }
}

function grouped(columns) {
  const groups = [];
  for (const [index, { model }] of columns.entries()) {
    if (groups.at(-1)?.model === model) groups.at(-1).count += 1;
    else groups.push({ model, first: index, count: 1 });
  }
  return groups;
}

// Pods of one set differ at the end of their names.
function short(name) {
  return name.length <= NAME_LENGTH ? name : `${name.slice(0, 4)}…${name.slice(5 - NAME_LENGTH)}`;
}
