// Which adapters somebody means by the files that they chose: each archive is one, each folder, and loose files are one together.

import { bytes } from "./numbers.js";

const NEEDED = ["adapter_config.json", "adapter_model.safetensors"];
const ARCHIVE = /\.(zip|tar\.gz|tgz|tar)$/i;
const PICKLE = /\.(bin|pt|pth|ckpt|pkl|pickle)$/i;
const MOST_FILES = 10_000;

// `files`: [{file, path}]; {adapters: [{name, files, size}], problem}. What the library would refuse after an hour is said at once.
export function adaptersOf(files, limits) {
  const groups = new Map();
  for (const { file, path } of files) {
    if (ARCHIVE.test(file.name)) {
      groups.set(path, { name: nameOf(file.name.replace(ARCHIVE, "")), files: [file] });
      continue;
    }
    if (!NEEDED.includes(file.name) && !(PICKLE.test(file.name) || file.name.endsWith(".safetensors"))) continue;
    const folder = path.includes("/") ? path.slice(0, path.lastIndexOf("/")) : "";
    const group = groups.get(folder) ?? { name: nameOf(folder.slice(folder.lastIndexOf("/") + 1)), files: [] };
    group.files.push(file);
    groups.set(folder, group);
  }
  const adapters = [];
  for (const group of groups.values()) {
    const size = group.files.reduce((sum, file) => sum + file.size, 0);
    const problem = wrong(group, size, limits);
    if (problem) return { adapters: [], problem };
    group.files.sort((a, b) => (a.name < b.name ? -1 : 1));
    adapters.push({ ...group, size });
  }
  const problem = files.length && !adapters.length ? `there is no adapter among these files: choose ${NEEDED.join(" and ")}, or an archive with both` : "";
  return { adapters, problem };
}

function wrong(group, size, limits) {
  const names = group.files.map((file) => file.name);
  if (!ARCHIVE.test(names[0])) {
    const pickle = names.find((name) => PICKLE.test(name));
    if (pickle && !names.includes(NEEDED[1])) return `${pickle} is refused, as reading such a file can run any code: save the adapter as safetensors (save_pretrained(…, safe_serialization=True))`;
    const missing = NEEDED.find((name) => !names.includes(name));
    if (missing) return `${group.name || "the adapter"} has no ${missing}: choose both ${NEEDED.join(" and ")}`;
    group.files = group.files.filter((file) => NEEDED.includes(file.name));
  }
  if (size > limits.upload_bytes) return `${group.name || names[0]} has ${bytes(size)}, and an upload may have ${bytes(limits.upload_bytes)}`;
  return "";
}

const nameOf = (text) => text.replace(/[^A-Za-z0-9._-]+/g, "-").replace(/\.{2,}/g, ".").replace(/^[-_.]+|[-_.]+$/g, "").slice(0, 100);

// Files of a drop, those in folders too.
export async function dropped(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.length) return [...transfer.files].map((file) => ({ file, path: file.name }));
  const found = [];
  for (const entry of entries) await walk(entry, "", found);
  return found;
}

async function walk(entry, folder, found) {
  if (found.length >= MOST_FILES) return;
  const path = folder + entry.name;
  if (entry.isFile) {
    found.push({ file: await new Promise((resolve, reject) => entry.file(resolve, reject)), path });
    return;
  }
  const reader = entry.createReader();
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) return;
    for (const one of some) await walk(one, `${path}/`, found);
  }
}
