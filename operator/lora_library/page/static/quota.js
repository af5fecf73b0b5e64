// How full somebody's quota is.

import { bar, byId, el } from "./dom.js";
import { bytes, count } from "./numbers.js";

export class Quota {
  constructor() {
    this.known = null;
  }

  show(quota) {
    this.known = quota;
    const deleted = quota.deleted_bytes ? `, ${bytes(quota.deleted_bytes)} of it deleted and restorable` : "";
    byId("gauges").replaceChildren(
      gauge("memory", quota.used_bytes, quota.max_bytes, `${bytes(quota.used_bytes)} of ${bytes(quota.max_bytes)}${deleted}`),
      gauge("slots", quota.adapters, quota.max_adapters, `${count(quota.adapters)} of ${count(quota.max_adapters)} adapters`),
    );
    byId("quota-warning").textContent = quota.warning ?? "";
  }
}

function gauge(kind, used, limit, words) {
  const made = bar(kind, used, limit);
  made.setAttribute("aria-hidden", "true");  // the words say the same
  return el("div", { class: "gauge" }, el("span", { text: words }), made);
}
