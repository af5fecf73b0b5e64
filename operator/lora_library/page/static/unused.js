// Adapters of which no use is known for long: perhaps they need not be kept. Where no uses are known at all, nothing is said.

import { call } from "./api.js";
import { byId, el } from "./dom.js";
import { bytes } from "./numbers.js";
import { ago } from "./words.js";

const DAYS = 30;
const SHOWN = 5;

export async function suggestUnused(me, open) {
  const section = byId("unused");
  section.hidden = true;
  if (!me.uses_known) return;
  const page = await call("GET", `?${new URLSearchParams({ mine: true, sort: "usage", order: "asc", limit: SHOWN })}`);
  const before = Date.now() - DAYS * 86400_000;
  const old = page.loras.filter((one) => new Date(one.last_used_at ?? one.created_at) < before);
  section.hidden = !old.length;
  byId("unused-why").textContent = `No use of these is known for ${DAYS} days. Requests that go to engines past the gateway and the routers are not seen.`;
  byId("unused-list").replaceChildren(...old.map((one) => el("li", {},
    el("button", { type: "button", class: "name-button", text: one.name, on: { click: () => open(one) } }),
    `${bytes(one.size_bytes)}, ${one.last_used_at ? `used ${ago(one.last_used_at)}` : `uploaded ${ago(one.created_at)}, no use known`}`)));
}
