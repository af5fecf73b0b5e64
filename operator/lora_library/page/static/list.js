// The adapters that somebody may see: filtered and sorted by the library, one page at a time.

import { call } from "./api.js";
import { say } from "./asking.js";
import { byId, el } from "./dom.js";
import { bytes, count, plural } from "./numbers.js";
import { ago, moment, stateWords, tagsOf, useWords } from "./words.js";

const PAGE = 50;
const TYPING_MS = 250;
const COLUMNS = [["Name", "name"], ["Base model"], ["Tags"], ["State"], ["Size", "size"], ["Last use", "usage"], ["Uploaded", "created_at"], ["Owner"]];
const FIELDS = { search: "filter-search", tags: "filter-tags", base_model: "filter-model", state: "filter-state", whose: "filter-whose" };

export class List {
  // `open(adapter)` shows one; `me()` is who looks.
  constructor(me, open) {
    this.me = me;
    this.open = open;
    this.sort = "created_at";
    this.order = "desc";
    this.offset = 0;
    this.total = 0;
    this.asked = 0;
    this.rows = [];
    this.chosen = "";
    let typing = 0;
    for (const id of Object.values(FIELDS)) {
      byId(id).addEventListener("input", () => {
        clearTimeout(typing);
        typing = setTimeout(() => this.load(0), TYPING_MS);
      });
    }
    byId("filters").addEventListener("submit", (event) => event.preventDefault());
    byId("previous").addEventListener("click", () => this.load(Math.max(0, this.offset - PAGE)));
    byId("next").addEventListener("click", () => this.load(this.offset + PAGE));
    document.addEventListener("keydown", (event) => {
      const writes = event.target instanceof HTMLInputElement || event.target instanceof HTMLTextAreaElement;
      if (event.key !== "/" || writes || event.ctrlKey || event.metaKey || byId("library").hidden) return;
      event.preventDefault();
      byId(FIELDS.search).focus();
    });
    this.#heads();
  }

  // Of pages that are asked for faster than they come, only the last is shown.
  async load(offset = this.offset, quiet = false) {
    const asked = ++this.asked;
    const { search, tags, base_model, state, whose } = Object.fromEntries(Object.entries(FIELDS).map(([name, id]) => [name, byId(id).value.trim()]));
    const query = new URLSearchParams({ sort: this.sort, order: this.order, limit: PAGE, offset });
    for (const [name, value] of Object.entries({ search, base_model, state })) if (value) query.set(name, value);
    for (const tag of tagsOf(tags)) query.append("tags", tag);
    if (whose) query.set(whose, "true");
    let page;
    try {
      page = await call("GET", `?${query}`);
    } catch (error) {
      if (asked === this.asked) byId("list-problem").textContent = error.message;
      return;
    }
    if (asked !== this.asked) return;
    if (!page.loras.length && page.total && offset) {
      await this.load(Math.floor((page.total - 1) / PAGE) * PAGE, quiet);
      return;
    }
    byId("list-problem").textContent = "";
    this.offset = offset;
    this.rows = page.loras;
    this.total = page.total;
    this.#show([search, tags, base_model, state, whose].some(Boolean));
    if (!quiet) say(plural(this.total, "adapter"));
  }

  choose(id) {
    this.chosen = id;
    for (const row of byId("rows").children) row.dataset.chosen = row.dataset.id === id;
  }

  // Where the focus goes back to.
  focus(id) {
    const row = [...byId("rows").children].find((one) => one.dataset.id === id);
    (row?.querySelector("button") ?? byId("list")).focus();
  }

  #show(filtered) {
    const focused = byId("rows").contains(document.activeElement) ? document.activeElement.closest("tr").dataset.id : null;
    byId("total").textContent = count(this.total);
    byId("rows").replaceChildren(...this.rows.map((one) => this.#row(one)));
    byId("empty").hidden = this.rows.length > 0;
    byId("empty").textContent = filtered ? "Nothing matches these filters." : "Nothing is here yet: upload an adapter above.";
    byId("previous").disabled = this.offset === 0;
    byId("next").disabled = this.offset + this.rows.length >= this.total;
    byId("page-words").textContent = this.rows.length ? `${count(this.offset + 1)} to ${count(this.offset + this.rows.length)} of ${count(this.total)}` : "";
    if (focused) this.focus(focused);
  }

  #row(one) {
    const mine = one.owner === this.me().subject;
    const name = el("button", { type: "button", class: "name-button", text: one.name, on: { click: () => this.open(one) } });
    return el("tr", { data: { id: one.id, chosen: one.id === this.chosen } },
      el("th", { scope: "row" }, name),
      el("td", { text: one.base_model }),
      el("td", {}, el("span", { class: "tags" }, ...one.tags.map((tag) => el("span", { class: "reason", text: tag })))),
      el("td", {}, el("span", { class: "state", data: { state: one.state }, text: one.deleted_at ? `deleted ${ago(one.deleted_at)}` : stateWords(one) })),
      el("td", { class: "number", text: bytes(one.size_bytes) }),
      el("td", { class: "number", text: useWords(one), title: moment(one.last_used_at) }),
      el("td", { class: "number", text: ago(one.created_at), title: moment(one.created_at) }),
      el("td", { text: mine ? "you" : one.owner }));
  }

  #heads() {
    byId("heads").replaceChildren(...COLUMNS.map(([title, sort]) => {
      if (!sort) return el("th", { scope: "col", text: title });
      const order = this.sort === sort ? (this.order === "asc" ? "ascending" : "descending") : "none";
      return el("th", { scope: "col", "aria-sort": order }, el("button", { type: "button", data: { sort }, text: title, on: { click: () => this.#sortBy(sort) } }));
    }));
  }

  async #sortBy(sort) {
    this.order = this.sort === sort ? (this.order === "asc" ? "desc" : "asc") : sort === "name" ? "asc" : "desc";
    this.sort = sort;
    this.#heads();
    byId("heads").querySelector(`[data-sort=${sort}]`).focus();
    await this.load(0);
  }
}
