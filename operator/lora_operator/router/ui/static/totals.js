// What is in sight of the filters, in five numbers.

import { bar, byId, el } from "./dom.js";
import { bytes, count } from "./numbers.js";

export function showTotals({ rows, columns, problems }) {
  const sum = (items, of) => items.reduce((total, one) => total + of(one), 0);
  const ready = columns.filter((one) => one.state === "Ready").length;
  const loaded = rows.filter((one) => one.state === "loaded").length;
  const budgets = columns.filter((one) => one.memoryBytes !== null);
  const memory = [sum(budgets, (one) => one.usedBytes), sum(budgets, (one) => one.memoryBytes)];
  const slots = [sum(columns, (one) => one.usedSlots), sum(columns, (one) => one.hostSlots)];
  const all = sum(columns, (one) => one.usedBytes);
  byId("totals").replaceChildren(
    total("Pods ready", count(ready), `of ${count(columns.length)}`, null, ready < columns.length ? "warn" : ""),
    total("Adapters loaded", count(loaded), `of ${count(rows.length)}`),
    total("Replicas", count(sum(rows, (one) => one.loaded)), "that answer"),
    total("Memory", bytes(memory[1] ? memory[0] : all), memory[1] ? `of ${bytes(memory[1])}` : "no budgets", bar("memory", ...memory)),
    total("Slots", count(slots[0]), `of ${count(slots[1])}`, bar("slots", ...slots)),
    total("Not placed", count(problems.length), "", null, problems.length ? "bad" : "good"),
  );
}

function total(name, value, of, gauge = null, tone = "") {
  return el("div", { class: "total", data: { tone, total: name } }, el("span", { class: "label", text: name }),
    el("span", { class: "value" }, el("b", { text: value }), ` ${of}`), gauge);
}
