// One tile for each pod, for fleets whose columns are not all in sight: how full it is, and whether it is well.

import { byId, el, level } from "./dom.js";
import { plural } from "./numbers.js";
import { podWords } from "./words.js";

const MANY = 300; // from here on the tiles are small

export class Strip {
  constructor(choose) {
    this.strip = byId("strip");
    this.words = el("p");
    this.node = el("div", { class: "tiles", role: "toolbar", "aria-label": "Pods" });
    this.strip.append(this.words, this.node);
    this.tiles = new Map();
    this.node.addEventListener("click", (event) => {
      const tile = event.target.closest("[data-pod]");
      if (tile) choose(null, tile.dataset.pod);
    });
    // one stop for the Tab key, as in a toolbar
    this.node.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      const next = step > 0 ? event.target.nextElementSibling : event.target.previousElementSibling;
      if (!step || !next) return;
      event.preventDefault();
      event.target.tabIndex = -1;
      next.tabIndex = 0;
      next.focus();
    });
  }

  show(columns, needed, chosen) {
    this.strip.hidden = !needed;
    if (!needed) return;
    this.words.textContent = `${plural(columns.length, "pod")}, as full as their memory or their slots are, whichever is more`;
    this.node.dataset.many = String(columns.length > MANY);
    let model = null;
    const used = new Set();
    let before = null;
    for (const pod of columns) {
      used.add(pod.key);
      const share = pod.memoryBytes ? pod.usedBytes / pod.memoryBytes : pod.hostSlots ? pod.usedSlots / pod.hostSlots : 0;
      const slots = pod.hostSlots ? pod.usedSlots / pod.hostSlots : 0;
      const most = Math.max(share, slots);
      let tile = this.tiles.get(pod.key);
      if (!tile) {
        tile = el("button", { type: "button", class: "tile", tabindex: "-1", data: { pod: pod.key } }, el("i"));
        this.tiles.set(pod.key, tile);
      }
      const shows = `${pod.state} ${pod.leaving} ${most.toFixed(3)} ${pod.problems.length} ${chosen === pod.key}`;
      if (tile.dataset.shows !== shows) {
        tile.dataset.shows = shows;
        tile.dataset.state = pod.problems.length ? "Wrong" : pod.state;
        tile.dataset.level = level(most, 1);
        tile.dataset.chosen = String(chosen === pod.key);
        tile.firstChild.style.setProperty("--share", `${Math.min(100 * most, 100)}%`);
        tile.title = podWords(pod);
        tile.setAttribute("aria-label", podWords(pod));
      }
      tile.dataset.first = String(pod.model !== model);
      model = pod.model;
      const next = before ? before.nextSibling : this.node.firstChild;
      if (next !== tile) this.node.insertBefore(tile, next);
      before = tile;
    }
    for (const [key, tile] of this.tiles) {
      if (!used.has(key)) {
        tile.remove();
        this.tiles.delete(key);
      }
    }
    if (this.node.firstChild && !this.node.querySelector("[tabindex='0']")) this.node.firstChild.tabIndex = 0;
  }
}
