// A question before what cannot be undone at once, and what is said to screen readers.

import { byId } from "./dom.js";

export function confirmed(title, text, yes) {
  const dialog = byId("question");
  byId("question-title").textContent = title;
  byId("question-text").textContent = text;
  byId("question-yes").textContent = yes;
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true }));
}

export function say(text) {
  byId("said").textContent = text;
}
