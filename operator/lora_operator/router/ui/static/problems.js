// The list of what is not placed, with the reason of every pod that refused.

import { byId, el } from "./dom.js";
import { count } from "./numbers.js";

const MOST = 200;

export class Problems {
  constructor(choose) {
    this.choose = choose;
    this.nodes = new Map();
  }

  show(problems, none) {
    byId("problems-count").textContent = count(problems.length);
    byId("problems-count").dataset.any = String(problems.length > 0);
    const by = new Map();
    for (const one of problems) by.set(one.reason, (by.get(one.reason) ?? 0) + 1);
    byId("reasons").replaceChildren(
      ...[...by].sort((a, b) => b[1] - a[1]).slice(0, 8).map(([reason, number]) => el("span", { class: "reason" }, `${reason} `, el("b", { text: count(number) }))),
    );
    const kept = new Map();
    const list = problems.slice(0, MOST).map((one) => {
      const shows = JSON.stringify(one);
      const before = this.nodes.get(one.key);
      const node = before?.shows === shows ? before.node : this.#item(one, before?.node.open ?? false);
      kept.set(one.key, { node, shows });
      return node;
    });
    const more = problems.length - list.length;
    const foot = more > 0 ? el("p", { class: "note", text: `and ${count(more)} more: filter to see them` }) : null;
    const calm = problems.length ? null : el("p", { class: "note calm", text: none });
    place(byId("problems"), [...list, foot, calm].filter(Boolean));
    this.nodes = kept;
  }

  #item(one, open) {
    const replicas = one.wanted ? ` · ${one.loaded} of ${one.wanted} replicas` : "";
    const what = { adapter: "", resource: "LoraAdapter ", pod: "pod " }[one.kind];
    const pods = el("ul");
    const show = el("button", { type: "button", class: "quiet", text: "Show", on: { click: () => this.choose(one) } });
    const node = el("details", { class: "problem", data: { name: one.name, reason: one.reason } },
      el("summary", {}, el("span", { class: "name", text: what + one.name }), el("span", { class: "reason", text: one.reason })),
      el("p", { class: "where", text: `${one.namespace}${one.resource && one.resource !== one.name ? ` · ${one.resource}` : ""} · ${one.model || "no base model"}${replicas}` }),
      el("p", { class: "why", text: one.message }),
      pods,
      one.kind === "resource" ? null : show);
    // made when somebody looks: hundreds of adapters times sixteen pods would be most of the page
    node.addEventListener("toggle", () => {
      if (!node.open || pods.firstChild) return;
      pods.append(...one.pods.map((why) => el("li", {}, el("b", { text: why.pod }), " ", el("span", { class: "reason", text: why.reason }), el("span", { class: "why", text: why.message }))));
    });
    node.open = open;
    return node;
  }
}

// Leave alone what is where it belongs, so that focus and open items stay.
export function place(parent, nodes) {
  let at = parent.firstChild;
  for (const node of nodes) {
    if (at === node) at = at.nextSibling;
    else parent.insertBefore(node, at);
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}
