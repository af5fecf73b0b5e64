// How one calls an adapter, to be copied.

import { say } from "./asking.js";
import { el } from "./dom.js";

export function example(one, gateway) {
  const text = `curl ${gateway ? gateway.replace(/\/+$/, "") : "$GATEWAY"}/v1/chat/completions \\
  -H "Authorization: Bearer $TOKEN" -H "Content-Type: application/json" \\
  -d '${JSON.stringify({ model: one.model, messages: [{ role: "user", content: "Hello" }] })}'`;
  const code = el("pre", { tabindex: "0", "aria-label": "Example of a call", text });
  const copy = el("button", { type: "button", class: "quiet", id: "copy", text: "Copy" });
  copy.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(text);
      say("copied");
      copy.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(code);  // to be copied by hand
      say("selected: copy it with your keyboard");
    }
  });
  return [el("h4", { text: "Call it" }), code, el("p", { class: "buttons" }, copy)];
}
