// The page: who looks at it, and what follows from what.

import { call, hasToken, setToken } from "./api.js";
import { say } from "./asking.js";
import { Details } from "./details.js";
import { byId, el } from "./dom.js";
import { List } from "./list.js";
import { Quota } from "./quota.js";
import { startTheme } from "./theme.js";
import { suggestUnused } from "./unused.js";
import { Uploads } from "./uploads.js";

const AGAIN_MS = 15_000;

let me = null;
const quota = new Quota();
const details = new Details(() => me, refresh, (id) => {
  list.choose("");
  list.focus(id);
});
const list = new List(() => me, open);
new Uploads(() => me, () => refresh());

async function open(one) {
  list.choose(one.id);
  await details.show(one);
}

async function refresh() {
  if (!me) return;
  try {
    const [known] = await Promise.all([call("GET", "/quota"), list.load(undefined, true), suggestUnused(me, open)]);
    quota.show(known);
  } catch (error) {
    if (error.status === 401) askForToken("the token is no longer taken: paste another");
    else say(error.message);
  }
}

// Without a token first: something before the library may add one.
async function start(problem = "") {
  try {
    me = await call("GET", "/me");
  } catch (error) {
    me = null;
    askForToken(error.status !== 401 ? error.message : hasToken() || problem ? problem || "the token is not taken: it may have expired" : "");
    return;
  }
  byId("who").textContent = me.admin ? `${me.subject}, administrator` : me.subject;
  byId("models").replaceChildren(...me.base_models.map((value) => el("option", { value })));
  show("library");
  await refresh();
}

function askForToken(problem) {
  me = null;
  setToken("");
  show("sign-in");
  byId("sign-in-problem").textContent = problem;
  byId("token").focus();
}

function show(page) {
  document.body.dataset.page = page;
  byId("library").hidden = page !== "library";
  byId("sign-in").hidden = page !== "sign-in";
  byId("who").hidden = page !== "library";
  byId("sign-out").hidden = page !== "library" || !hasToken();
}

byId("sign-in-form").addEventListener("submit", (event) => {
  event.preventDefault();
  setToken(byId("token").value.trim());
  byId("token").value = "";
  start("the token is not taken: it may have expired, or be for something else");
});
byId("sign-out").addEventListener("click", () => {
  if (!byId("details").hidden) details.close();
  byId("rows").replaceChildren();
  askForToken("");
});
startTheme();
setInterval(() => {
  if (me && !document.hidden && !document.querySelector("dialog[open]")) refresh();
}, AGAIN_MS);
start();
