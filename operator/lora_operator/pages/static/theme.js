// Light, dark, or as the system has it; remembered by this browser.

import { byId } from "./dom.js";

const THEMES = ["auto", "light", "dark"];
const NAME = "lora-fleet-theme";

export function startTheme() {
  const button = byId("theme");
  let theme = read();
  const show = () => {
    document.documentElement.dataset.theme = theme;
    button.textContent = `Theme: ${theme}`;
  };
  button.addEventListener("click", () => {
    theme = THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length];
    try {
      localStorage.setItem(NAME, theme);
    } catch {
      // not allowed to remember: then for this time only
    }
    show();
  });
  show();
}

function read() {
  try {
    const theme = localStorage.getItem(NAME);
    return THEMES.includes(theme) ? theme : "auto";
  } catch {
    return "auto";
  }
}
