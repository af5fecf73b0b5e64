// Makes elements. Text gets in as text only: names and messages come from people who may not mean well.

export function el(tag, options = {}, ...children) {
  const node = document.createElement(tag);
  const { class: name, data, on, text, ...rest } = options;
  if (name) node.className = name;
  for (const [key, value] of Object.entries(data ?? {})) node.dataset[key] = value;
  for (const [event, handler] of Object.entries(on ?? {})) node.addEventListener(event, handler);
  for (const [key, value] of Object.entries(rest)) {
    if (value === true) node.setAttribute(key, "");
    else if (value !== false && value !== undefined && value !== null) node.setAttribute(key, value);
  }
  if (text !== undefined) node.textContent = text;
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

export const byId = (id) => document.getElementById(id);

// A bar of `used` of `limit`; without a limit an empty track. `kind`: memory or slots.
export function bar(kind, used, limit) {
  const fill = el("i");
  const share = limit ? used / limit : 0;
  fill.style.setProperty("--share", `${Math.min(100 * share, 100)}%`);
  return el("span", { class: "bar", data: { kind, level: level(used, limit) } }, fill);
}

export function level(used, limit) {
  if (!limit) return "none";
  const share = used / limit;
  return share > 1 ? "over" : share >= 0.9 ? "high" : "normal";
}
