// What is chosen or dropped, and its way to the library: one after the other, each with its progress, to be cancelled.

import { Problem, upload } from "./api.js";
import { say } from "./asking.js";
import { byId, el } from "./dom.js";
import { adaptersOf, dropped } from "./chosen.js";
import { bytes, plural } from "./numbers.js";
import { tagsOf } from "./words.js";

export class Uploads {
  // `limits()`: {upload_bytes, available_bytes}; `stored(adapter)` is called for each that the library has taken.
  constructor(limits, stored) {
    this.limits = limits;
    this.stored = stored;
    this.chosen = [];
    this.waiting = [];
    this.busy = false;
    const drop = byId("drop");
    for (const [event, over] of [["dragenter", true], ["dragover", true], ["dragleave", false], ["drop", false]]) {
      drop.addEventListener(event, (happened) => {
        happened.preventDefault();
        drop.dataset.over = over;
      });
    }
    drop.addEventListener("drop", async (event) => this.#choose(await dropped(event.dataTransfer)));
    for (const id of ["files", "folder"]) {
      byId(id).addEventListener("change", (event) => {
        this.#choose([...event.target.files].map((file) => ({ file, path: file.webkitRelativePath || file.name })));
        event.target.value = "";
      });
    }
    byId("upload-form").addEventListener("submit", (event) => {
      event.preventDefault();
      this.#enqueue();
    });
  }

  #choose(files) {
    const { adapters, problem } = adaptersOf(files, this.limits());
    this.chosen = adapters;
    byId("upload-problem").textContent = problem;
    byId("upload-start").disabled = !adapters.length;
    byId("upload-name").disabled = adapters.length > 1;
    byId("chosen").replaceChildren(...adapters.map((one) => el("li", {
      text: `${one.name || "an adapter"}: ${one.files.map((file) => file.name).join(", ")} (${bytes(one.size)})`,
    })));
    if (adapters.length) {
      say(`${plural(adapters.length, "adapter")} chosen`);
      byId(adapters.length > 1 || adapters[0].name ? "upload-start" : "upload-name").focus();
    }
  }

  #enqueue() {
    const name = byId("upload-name").disabled ? "" : byId("upload-name").value.trim();
    if (this.chosen.length === 1 && !(name || this.chosen[0].name)) {
      byId("upload-problem").textContent = "give the adapter a name";
      byId("upload-name").focus();
      return;
    }
    for (const one of this.chosen) {
      const form = new FormData();
      form.append("name", name || one.name);
      for (const tag of tagsOf(byId("upload-tags").value)) form.append("tags[]", tag);
      if (byId("upload-model").value.trim()) form.append("base_model", byId("upload-model").value.trim());
      for (const file of one.files) form.append("file", file, file.name);
      this.waiting.push(new Upload(name || one.name, one.size, form));
    }
    byId("uploads").append(...this.waiting.filter((one) => !one.node.isConnected).map((one) => one.node));
    this.#choose([]);
    byId("upload-problem").textContent = "";
    byId("upload-name").value = "";
    this.#next();
  }

  async #next() {
    if (this.busy) return;
    this.busy = true;
    try {
      while (this.waiting.length) {
        const made = await this.waiting.shift().run();
        if (made) this.stored(made);
      }
    } finally {
      this.busy = false;
    }
  }
}

class Upload {
  constructor(name, size, form) {
    this.name = name;
    this.form = form;
    this.cancelled = false;
    this.progress = el("progress", { max: 1, value: 0, "aria-label": `Upload of ${name}` });
    this.words = el("span", { class: "words", text: "waits" });
    this.button = el("button", { type: "button", class: "quiet", text: "Cancel", "aria-label": `Cancel the upload of ${name}`, on: { click: () => this.#cancel() } });
    this.node = el("li", { data: { upload: name } }, el("span", { class: "name", text: `${name}, ${bytes(size)}` }), this.button, this.progress, this.words);
  }

  // The adapter, or null.
  async run() {
    if (this.cancelled) return null;
    const under = upload(this.form, (sent, total) => {
      this.progress.value = total ? sent / total : 0;
      this.words.textContent = sent < total ? `${Math.floor((100 * sent) / total)} %` : "is checked and stored";
    });
    this.abort = under.cancel;
    try {
      const made = await under.done;
      this.#end(`version ${made.version} is stored`, "done");
      say(`${this.name} is uploaded`);
      return made;
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      this.#end(error.code === "CANCELLED" ? "cancelled" : `not uploaded: ${error.message}`, "trouble");
      say(`${this.name} is not uploaded: ${error.message}`);
      return null;
    } finally {
      this.form = null;
    }
  }

  #cancel() {
    this.cancelled = true;
    if (this.abort) this.abort();
    else this.#end("cancelled", "trouble");
  }

  #end(words, name) {
    this.progress.remove();
    this.words.remove();
    this.node.append(el("p", { class: name, text: words }));
    const dismiss = el("button", { type: "button", class: "quiet", text: "Dismiss", "aria-label": `Dismiss the upload of ${this.name}`, on: { click: () => this.node.remove() } });
    const focused = document.activeElement === this.button;
    this.button.replaceWith(dismiss);
    if (focused) dismiss.focus();
  }
}
