// What a person wants to see, kept in the address so that it can be bookmarked, and the rows and columns that are left.

import { byId, el } from "./dom.js";
import { COLLATOR } from "./model.js";

const FIELDS = { text: "filter-text", namespace: "filter-namespace", model: "filter-model", state: "filter-state" };

export class Filters {
  constructor(changed) {
    this.fields = Object.fromEntries(Object.entries(FIELDS).map(([name, id]) => [name, byId(id)]));
    const stored = new URLSearchParams(location.hash.slice(1));
    for (const [name, field] of Object.entries(this.fields)) {
      const value = stored.get(name) ?? "";
      if (field instanceof HTMLSelectElement) ensure(field, value);
      field.value = value;
      field.addEventListener("input", () => {
        this.#store();
        changed();
      });
    }
    byId("filters").addEventListener("submit", (event) => event.preventDefault());
    document.addEventListener("keydown", (event) => {
      if (event.key === "/" && !(event.target instanceof HTMLInputElement) && !event.ctrlKey && !event.metaKey) {
        event.preventDefault();
        this.fields.text.focus();
        this.fields.text.select();
      }
    });
  }

  get active() {
    return Object.values(this.fields).some((field) => field.value !== "");
  }

  clear() {
    for (const field of Object.values(this.fields)) field.value = "";
    this.#store();
  }

  #store() {
    const set = Object.entries(this.fields).filter(([, field]) => field.value !== "");
    const hash = new URLSearchParams(set.map(([name, field]) => [name, field.value])).toString();
    history.replaceState(null, "", hash ? `#${hash}` : location.pathname + location.search);
  }

  // Offer the namespaces and base models that there are.
  offer(derived) {
    const all = [...derived.rows.values(), ...derived.columns.values()];
    fill(this.fields.namespace, new Set(all.map((one) => one.namespace)));
    fill(this.fields.model, new Set(all.map((one) => one.model).filter(Boolean)));
  }

  // {rows, columns, problems}: arrays in order.
  apply(derived, problems, order) {
    const { text, namespace, model, state } = Object.fromEntries(
      Object.entries(this.fields).map(([name, field]) => [name, field.value]),
    );
    const inside = (one) => (!namespace || one.namespace === namespace) && (!model || one.model === model || one.baseModels?.includes(model));
    let rows = order.rows.map((key) => derived.rows.get(key)).filter(inside);
    let columns = order.columns.map((key) => derived.columns.get(key)).filter(inside);
    let shown = problems.filter((one) => inside(one) && (!state || state === "notplaced"));
    if (state) {
      rows = rows.filter((row) => row.state === state || has(row, state));
      const left = new Set(rows.map((row) => row.key));
      columns = columns.filter((one) => [...one.cells.keys()].some((key) => left.has(key)));
    }
    const terms = text.toLowerCase().split(/\s+/).filter(Boolean);
    if (terms.length) {
      const says = (...texts) => terms.every((term) => texts.some((one) => one?.toLowerCase().includes(term)));
      const named = new Set(rows.filter((row) => says(row.name, row.resource)).map((row) => row.key));
      const pods = new Set(columns.filter((one) => says(one.name, one.node)).map((one) => one.key));
      const touches = (cells, keys) => [...cells].some(([key, cell]) => cell.state !== "refused" && keys.has(key));
      rows = rows.filter((row) => named.has(row.key) || touches(row.cells, pods));
      columns = columns.filter((one) => pods.has(one.key) || [...one.cells.keys()].some((key) => named.has(key)));
      shown = shown.filter((one) => says(one.name, one.resource, one.reason, one.message));
    }
    return { rows, columns, problems: shown };
  }
}

function has(row, state) {
  for (const cell of row.cells.values()) if (cell.state === state) return true;
  return false;
}

// Sorted once for each set of names: sorting thousands for every change would keep the page busy.
export class Order {
  constructor() {
    this.rows = [];
    this.columns = [];
  }

  follow(derived) {
    this.rows = sorted(this.rows, derived.rows);
    this.columns = sorted(this.columns, derived.columns);
  }
}

function sorted(keys, found) {
  if (keys.length === found.size && keys.every((key) => found.has(key))) return keys;
  return [...found.values()]
    .sort((a, b) => COLLATOR.compare(a.model, b.model) || COLLATOR.compare(a.namespace, b.namespace) || COLLATOR.compare(a.name, b.name))
    .map((one) => one.key);
}

function ensure(select, value) {
  if (![...select.options].some((option) => option.value === value)) select.append(el("option", { value, text: value }));
}

function fill(select, values) {
  const wanted = [...values].sort(COLLATOR.compare);
  const present = [...select.options].slice(1).map((option) => option.value);
  if (select.value && !values.has(select.value)) wanted.push(select.value);
  if (wanted.join("\n") === present.join("\n")) return;
  const chosen = select.value;
  select.replaceChildren(select.options[0], ...wanted.map((value) => el("option", { value, text: value })));
  select.value = chosen;
}
