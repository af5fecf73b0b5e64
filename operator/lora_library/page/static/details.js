// Everything about one adapter, and what its owner may change of it.

import { call } from "./api.js";
import { confirmed, say } from "./asking.js";
import { byId, el } from "./dom.js";
import { example } from "./example.js";
import { bytes, count } from "./numbers.js";
import { ago, moment, stateWords, tagsOf, useWords } from "./words.js";

export class Details {
  // `changed()` is called after a change; `closed(id)` when nothing is shown any more.
  constructor(me, changed, closed) {
    this.me = me;
    this.changed = changed;
    this.closed = closed;
    this.node = byId("details");
    this.id = "";
    document.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && !this.node.hidden && !byId("question").open) this.close();
    });
  }

  // `listed` is what the list has of it: of one that is deleted there is no more.
  async show(listed) {
    this.id = listed.id;
    try {
      const one = listed.deleted_at ? listed : await call("GET", `/${listed.id}`);
      if (this.id !== listed.id) return;
      this.#draw(one);
      this.node.hidden = false;
      this.node.querySelector("h2").focus();
    } catch (error) {
      this.node.hidden = false;
      this.node.replaceChildren(this.#head("Details"), el("p", { class: "trouble", role: "alert", text: error.message }));
    }
  }

  close() {
    const id = this.id;
    this.id = "";
    this.node.hidden = true;
    this.node.replaceChildren();
    this.closed(id);
  }

  #head(title) {
    const close = el("button", { type: "button", class: "quiet close", text: "Close", "aria-keyshortcuts": "Escape", on: { click: () => this.close() } });
    return el("h2", { tabindex: "-1" }, title, close);
  }

  #draw(one) {
    const mine = one.owner === this.me().subject;
    this.trouble = el("p", { class: "trouble", role: "alert" });
    const parts = [this.#head("Adapter"), el("h3", { text: one.name }), this.trouble, facts(one)];
    if (one.deleted_at) parts.push(...this.#deleted(one));
    else {
      parts.push(...example(one, this.me().gateway));
      if (one.versions) parts.push(...this.#versions(one, mine));
      if (mine) parts.push(...this.#words(one), ...this.#sharing(one), ...this.#end(one));
    }
    this.node.replaceChildren(...parts);
  }

  #versions(one, mine) {
    const lines = one.versions.map((each) => {
      const serve = each.version !== one.version && mine
        ? el("button", { type: "button", class: "quiet", text: "Serve this", "aria-label": `Serve version ${each.version}`, on: { click: () => this.#change(one, { version: each.version }, `version ${each.version} is served`) } }) : null;
      const words = `${each.version}, ${ago(each.created_at)}, ${bytes(each.size_bytes)}${each.rank ? `, rank ${each.rank}` : ""}`;
      return el("li", { data: { version: each.version } }, el("span", { text: words, title: moment(each.created_at) }), each.version === one.version ? el("b", { class: "done", text: "served" }) : null, serve);
    });
    const pin = !mine ? null : el("label", { class: "check" }, el("input", { type: "checkbox", id: "pinned", checked: one.pinned, on: {
      change: (event) => this.#change(one, { pinned: event.target.checked }, event.target.checked ? "pinned" : "the newest version is served"),
    } }), "Stay with this version when another is uploaded");
    return [el("h4", { text: "Versions" }), el("ul", { class: "versions" }, ...lines), pin];
  }

  #words(one) {
    const name = el("input", { id: "change-name", value: one.name, maxlength: 100, required: true, spellcheck: "false" });
    const tags = el("input", { id: "change-tags", value: one.tags.join(", "), maxlength: 2200 });
    const about = el("textarea", { id: "change-description", maxlength: 10000 });
    about.value = one.description;
    const form = el("form", { "aria-label": "Name, tags and description", on: { submit: (event) => {
      event.preventDefault();
      this.#change(one, { name: name.value.trim(), tags: tagsOf(tags.value), description: about.value }, "saved");
    } } }, el("label", {}, "Name", name), el("label", {}, "Tags, with commas", tags), el("label", {}, "Description", about), el("p", { class: "buttons" }, el("button", { class: "quiet", text: "Save" })));
    return [el("h4", { text: "Change" }), form];
  }

  #sharing(one) {
    const shared = one.shared_with ?? { users: [], groups: [], everybody: false };
    const users = el("input", { id: "share-users", value: shared.users.join(", "), spellcheck: "false" });
    const groups = el("input", { id: "share-groups", value: shared.groups.join(", "), spellcheck: "false" });
    const everybody = el("input", { id: "share-everybody", type: "checkbox", checked: shared.everybody });
    const form = el("form", { "aria-label": "Sharing", on: { submit: (event) => {
      event.preventDefault();
      const body = { users: tagsOf(users.value), groups: tagsOf(groups.value), everybody: everybody.checked };
      this.#change(one, { shared_with: body }, "sharing is saved");
    } } }, el("label", {}, "Users, with commas", users), el("label", {}, "Groups, with commas", groups), el("label", { class: "check" }, everybody, "Everybody"), el("p", { class: "buttons" }, el("button", { class: "quiet", text: "Share" })));
    return [el("h4", { text: "Shared with" }), form];
  }

  #end(one) {
    const days = this.me().restore_days;
    const remove = async () => {
      if (!(await confirmed(`Delete ${one.name}?`, `Nobody can call it any more. It can be restored for ${count(days)} days.`, "Delete"))) return;
      await this.#do(() => call("DELETE", `/${one.id}`), `${one.name} is deleted`, true);
    };
    return [el("p", { class: "buttons" }, el("button", { type: "button", class: "quiet danger", id: "delete", text: "Delete", on: { click: remove } }))];
  }

  #deleted(one) {
    const purge = async () => {
      if (!(await confirmed(`Remove ${one.name} for good?`, "Its files are deleted everywhere. This cannot be undone.", "Remove for good"))) return;
      await this.#do(() => call("DELETE", `/${one.id}?purge=true`), `${one.name} is gone`, true);
    };
    return [el("p", { class: "buttons" },
      el("button", { type: "button", class: "main", id: "restore", text: "Restore", on: { click: () => this.#do(() => call("POST", `/${one.id}/restore`), `${one.name} is restored`, true) } }),
      el("button", { type: "button", class: "quiet danger", id: "purge", text: "Remove for good", on: { click: purge } }))];
  }

  async #change(one, body, words) {
    await this.#do(async () => this.#redraw(await call("PATCH", `/${one.id}`, body)), words, false);
  }

  #redraw(one) {
    const focused = document.activeElement?.id;
    // what somebody is writing meanwhile stays
    const fields = [...this.node.querySelectorAll("input:not([type=checkbox]), textarea")];
    const typed = fields.filter((field) => field.value !== field.defaultValue).map((field) => [field.id, field.value]);
    if (this.id === one.id) this.#draw(one);
    for (const [id, value] of typed) if (byId(id)) byId(id).value = value;
    if (focused) byId(focused)?.focus();
    else this.node.querySelector("h2").focus();
  }

  async #do(step, words, close) {
    this.trouble.textContent = "";
    try {
      await step();
    } catch (error) {
      this.trouble.textContent = error.message;
      if (!close) this.node.querySelector("#pinned")?.focus();
      return;
    }
    say(words);
    if (close) this.close();
    this.changed();
  }
}

function facts(one) {
  const pairs = [
    ["State", one.deleted_at ? `deleted ${ago(one.deleted_at)}` : stateWords(one)],
    ["Why", [one.reason, one.message].filter(Boolean).join(": ")],
    ["Loaded on", one.pods.join(", ")],
    ["Owner", one.owner],
    ["Base model", one.base_model],
    ["Trained on", one.trained_on === one.base_model ? "" : one.trained_on],
    ["Rank", one.rank],
    ["Modules", (one.modules ?? []).join(", ")],
    ["Weights", one.dtype],
    ["Size", bytes(one.size_bytes)],
    ["Trigger words", (one.trigger_words ?? []).join(", ")],
    ["Last use", one.last_used_at ? `${useWords(one)} (${moment(one.last_used_at)})` : useWords(one)],
    ["Requests", one.usage_count === null ? "" : count(one.usage_count)],
    ["Uploaded", moment(one.created_at)],
    ["Changed", moment(one.updated_at)],
    ["Doubts", (one.doubts ?? []).join("; ")],
    ["About", one.description],
    ...Object.entries(one.training ?? {}),
  ].filter(([, value]) => value !== "" && value !== null && value !== undefined);
  return el("dl", {}, ...pairs.flatMap(([name, value]) => [el("dt", { text: name }), el("dd", { text: String(value) })]));
}
