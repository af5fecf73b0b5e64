// Asks the library. The token, if somebody gave one, is kept by this tab alone and goes into a header, never an address.

const NAME = "lora-library-token";
const ROOT = new URL("../api/loras", document.baseURI).href;

export class Problem extends Error {
  constructor(status, body) {
    super(body.detail ?? `the library answered ${status}`);
    this.status = status;
    this.code = body.code ?? "";
  }
}

let token = stored();

export function setToken(value) {
  token = value;
  try {
    if (value) sessionStorage.setItem(NAME, value);
    else sessionStorage.removeItem(NAME);
  } catch {
    // not allowed to remember: then until the page is left
  }
}

export const hasToken = () => token !== "";

function stored() {
  try {
    return sessionStorage.getItem(NAME) ?? "";
  } catch {
    return "";
  }
}

// Without a token too: what stands before the library may add who somebody is.
const headers = () => (token ? { Authorization: `Bearer ${token}` } : {});

export async function call(method, path, body) {
  const options = { method, headers: headers(), credentials: "same-origin", redirect: "error" };
  if (body !== undefined) {
    options.body = JSON.stringify(body);
    options.headers["Content-Type"] = "application/json";
  }
  let answer;
  try {
    answer = await fetch(ROOT + path, options);
  } catch {
    throw new Problem(0, { detail: "the library does not answer: see whether you are connected, and try again" });
  }
  const json = (answer.headers.get("Content-Type") ?? "").includes("json");
  const read = json ? await answer.json() : null;
  if (!answer.ok) throw new Problem(answer.status, read ?? {});
  return read;
}

// {done, cancel}: `progress(sent, total)` is told how far it is. XMLHttpRequest, since fetch says nothing of that.
export function upload(form, progress) {
  const request = new XMLHttpRequest();
  const done = new Promise((resolve, reject) => {
    request.open("POST", `${ROOT}/upload`);
    for (const [name, value] of Object.entries(headers())) request.setRequestHeader(name, value);
    request.upload.addEventListener("progress", (event) => progress(event.loaded, event.total));
    request.addEventListener("load", () => {
      let read = {};
      try {
        read = JSON.parse(request.responseText);
      } catch {
        // not of the library: a proxy's page
      }
      if (request.status === 201) resolve(read);
      else reject(new Problem(request.status, read));
    });
    const broken = { detail: "the connection broke before the library answered: it may refuse what is as large, or have gone; try again" };
    request.addEventListener("error", () => reject(new Problem(0, broken)));
    request.addEventListener("abort", () => reject(new Problem(0, { code: "CANCELLED", detail: "cancelled" })));
    request.send(form);
  });
  return { done, cancel: () => request.abort() };
}
