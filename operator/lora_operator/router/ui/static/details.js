// Everything about one adapter, one pod, or one adapter on one pod.

import { bar, byId, el } from "./dom.js";
import { bytes, count, plural } from "./numbers.js";
import { cellWords, replicaWords, podState, rowState, stateWord } from "./words.js";

const MOST = 300;

export class Details {
  constructor(choose) {
    this.node = byId("details");
    this.choose = choose;
    this.shown = "";
  }

  show(row, pod) {
    this.node.hidden = !row && !pod;
    if (this.node.hidden) {
      this.shown = "";
      return;
    }
    const parts = [];
    if (row && pod) parts.push(el("p", { class: "cell-words", text: cellWords(row, pod) }));
    if (row) parts.push(...this.#row(row));
    if (pod) parts.push(...this.#pod(pod));
    const title = row && pod ? "Adapter on pod" : row ? "Adapter" : "Pod";
    const close = el("button", { type: "button", class: "quiet close", text: "Close", "aria-keyshortcuts": "Escape", on: { click: () => this.choose(null, null) } });
    const made = [el("h2", {}, title, close), ...parts];
    const signature = made.map((one) => one.textContent + (one.querySelector("i")?.style.cssText ?? "")).join("\n");
    if (signature === this.shown) return;
    this.shown = signature;
    const focused = this.node.contains(document.activeElement) ? document.activeElement.dataset.key ?? "close" : null;
    this.node.replaceChildren(...made);
    if (focused !== null) ([...this.node.querySelectorAll("button")].find((one) => one.dataset.key === focused) ?? close).focus();
  }

  #row(row) {
    const pods = [...row.cells].map(([key, cell]) => this.#link(key.slice(key.indexOf("/") + 1), stateWord(cell), cell.state, () => this.choose(null, key)));
    return [
      el("h3", { text: row.name }),
      list([
        ["State", row.reason && row.reason.toLowerCase() !== row.state ? `${rowState(row)} (${row.reason})` : rowState(row)],
        ["Why", row.message],
        ["LoraAdapter", `${row.namespace}/${row.resource}`],
        ["Base model", row.model],
        ["Replicas", replicaWords(row)],
        ["Size", row.bytes === null ? "not known" : `${bytes(row.bytes)}, rank ${row.rank ?? "not known"}`],
      ]),
      ...cut("Pods", pods),
    ];
  }

  #pod(pod) {
    const on = [...pod.cells].filter(([, cell]) => cell.state !== "refused").map(([key, cell]) => this.#link(key.slice(key.indexOf("/") + 1), stateWord(cell), cell.state, () => this.choose(key, null)));
    const memory = el("span", { class: "gauge" }, bar("memory", pod.usedBytes, pod.memoryBytes),
      pod.memoryBytes === null ? `${bytes(pod.usedBytes)}, no budget declared` : `${bytes(pod.usedBytes)} of ${bytes(pod.memoryBytes)}`);
    const slots = el("span", { class: "gauge" }, bar("slots", pod.usedSlots, pod.hostSlots), `${pod.usedSlots} of ${pod.hostSlots}, ${pod.gpuSlots} in a batch`);
    return [
      el("h3", { text: pod.name }),
      list([
        ["State", podState(pod)],
        ["Namespace", pod.namespace],
        ["Base model", pod.baseModels.join(", ")],
        ["Node", pod.node],
        ["Engine", pod.address],
        ["Memory", memory],
        ["Slots", slots],
        ["Not counted", pod.unknown ? `${plural(pod.unknown, "adapter")} of unknown size` : ""],
        ["Highest rank", pod.maxRank ? count(pod.maxRank) : ""],
        ["Wrong", pod.problems.join("; ")],
      ]),
      ...cut("Adapters", on),
    ];
  }

  #link(name, word, state, choose) {
    return el("li", {}, el("button", { type: "button", class: "link-button", data: { key: `${name} ${state}` }, on: { click: choose } },
      el("i", { class: `mark ${state}` }), el("span", { class: "name", text: name }), el("span", { class: "state", text: word })));
  }
}

function list(pairs) {
  const rows = pairs.filter(([, value]) => value !== "" && value !== undefined && value !== null);
  return el("dl", {}, ...rows.flatMap(([name, value]) => [el("dt", { text: name }), el("dd", {}, value)]));
}

function cut(title, items) {
  if (!items.length) return [];
  const more = items.length > MOST ? [el("p", { class: "note", text: `and ${count(items.length - MOST)} more` })] : [];
  return [el("h4", {}, `${title} `, el("span", { class: "count", text: count(items.length) })), el("ul", { class: "links" }, ...items.slice(0, MOST)), ...more];
}
