// All that is known of the fleet, and what follows from it: rows (adapters), columns (pods) and what stands between.

// Reasons of an adapter that is not loaded and has no trouble.
const CALM = {
  Loading: "loading", NotSeenYet: "waiting", LoadOnDemand: "cold", ScaledToZero: "cold", Deleting: "going",
  // these heal by waiting
  PodNotReady: "waiting", PodTerminating: "waiting", WaitingForRoom: "waiting",
};
const LOADS = new Set(["Fetching", "Loading"]);
const PRESENT = new Set(["AlreadyPlaced", "NotWanted"]);
export const COLLATOR = new Intl.Collator("en", { numeric: true });

const keyOf = (namespace, name) => `${namespace}/${name}`;

export class Model {
  constructor() {
    this.entries = new Map(); // adapters as the routing table has them
    this.pods = new Map();
    this.resources = new Map();
    this.underWay = [];
    this.version = "";
  }

  get busy() {
    return this.underWay.length > 0;
  }

  replace(adapters) {
    this.entries = new Map(adapters.map((one) => [keyOf(one.namespace, one.name), one]));
  }

  put(change) {
    const key = keyOf(change.namespace, change.name);
    if (change.type === "Deleted") this.entries.delete(key);
    else this.entries.set(key, change.adapter);
  }

  // Take an answer of /v1/fleet; whether anything is new.
  take(fleet) {
    const wasBusy = this.busy;
    if (fleet.whole) {
      this.pods.clear();
      this.resources.clear();
    }
    for (const pod of fleet.pods) this.pods.set(keyOf(pod.namespace, pod.name), pod);
    for (const pod of fleet.podsGone) this.pods.delete(keyOf(pod.namespace, pod.name));
    for (const resource of fleet.resources) {
      this.resources.set(keyOf(resource.namespace, resource.name), {
        ...resource,
        byName: new Map(resource.adapters.map((one) => [one.name, one])),
        failedByName: new Map(resource.failed.map((one) => [one.name, one])),
      });
    }
    for (const resource of fleet.resourcesGone) this.resources.delete(keyOf(resource.namespace, resource.name));
    this.underWay = fleet.underWay ?? [];
    const changed = fleet.whole || this.version !== fleet.version || this.busy || wasBusy;
    this.version = fleet.version;
    return changed;
  }

  // {rows, columns}: Maps by key. Cells are in both, under the key of the other.
  derive() {
    const columns = new Map();
    for (const [key, pod] of this.pods) columns.set(key, column(key, pod));
    const rows = new Map();
    for (const [key, entry] of this.entries) rows.set(key, this.#row(key, entry, columns));
    for (const effect of this.underWay) this.#effect(effect, rows, columns);
    for (const row of rows.values()) judge(row);
    return { rows, columns };
  }

  #row(key, entry, columns) {
    const resource = this.resources.get(keyOf(entry.namespace, entry.resource));
    const known = resource?.byName.get(entry.name);
    const failed = resource?.failedByName.get(entry.name);
    const row = {
      key, namespace: entry.namespace, name: entry.name, model: entry.baseModel, resource: entry.resource,
      bytes: known?.bytes ?? null, rank: known?.rank ?? null, wanted: known?.wanted ?? entry.pods.length,
      loaded: entry.pods.length, failed, entry, of: resource, cells: new Map(), state: "", reason: "", message: "",
    };
    const deleting = resource?.deleting;
    for (const one of entry.pods) {
      const cell = { state: deleting ? "going" : "loaded", engineName: one.engineName, address: one.address };
      put(row, this.#column(columns, entry, one), cell);
    }
    for (const one of entry.withheld ?? []) {
      put(row, this.#column(columns, entry, one), { state: one.state === "Terminating" ? "going" : "withheld", why: one.state });
    }
    for (const one of failed?.pods ?? []) {
      const there = columns.get(keyOf(entry.namespace, one.pod));
      if (there && !row.cells.has(there.key) && !PRESENT.has(one.reason)) {
        put(row, there, { state: "refused", why: one.reason, message: one.message });
      }
    }
    return row;
  }

  // The stream may tell of a pod a moment before /v1/fleet does.
  #column(columns, entry, one) {
    const key = keyOf(entry.namespace, one.pod);
    let found = columns.get(key);
    if (!found) {
      const pod = {
        namespace: entry.namespace, name: one.pod, node: "", address: one.address ?? "", baseModels: [entry.baseModel],
        memoryBytes: null, gpuSlots: 0, hostSlots: 0, maxRank: 0, state: one.address ? "Ready" : "NotReady",
        leaving: false, problems: [],
      };
      found = column(key, pod);
      columns.set(key, found);
    }
    return found;
  }

  #effect(effect, rows, columns) {
    const row = rows.get(keyOf(effect.namespace, effect.name));
    const there = columns.get(keyOf(effect.namespace, effect.pod));
    if (!there) return;
    const loads = LOADS.has(effect.stage);
    const cell = row?.cells.get(there.key);
    if (!row) {
      // something that is leaving, and that nobody wants any more
      there.usedBytes += effect.bytes;
      there.usedSlots += 1;
    } else if (!cell || cell.state === "refused") {
      put(row, there, {
        state: loads ? "loading" : "going", why: effect.stage, percent: effect.fetchedPercent, bytes: effect.bytes,
      });
    } else if (loads) {
      cell.updating = true;
      cell.percent = effect.fetchedPercent;
    }
  }
}

function column(key, pod) {
  return { ...pod, key, model: pod.baseModels[0] ?? "", cells: new Map(), usedBytes: 0, usedSlots: 0, unknown: 0 };
}

function put(row, there, cell) {
  if (row.cells.has(there.key)) return;
  row.cells.set(there.key, cell);
  there.cells.set(row.key, cell);
  if (cell.state === "refused") return;
  const size = cell.bytes ?? row.bytes;
  there.usedSlots += 1;
  if (size === null) there.unknown += 1;
  else there.usedBytes += size;
}

// The one state of an adapter, with its reason: loaded, loading, waiting, going, withheld, cold or notplaced.
function judge(row) {
  const states = new Set([...row.cells.values()].map((cell) => cell.state));
  const say = (state, reason = "", message = "") => Object.assign(row, { state, reason, message });
  const { failed, of, entry } = row;
  if (of?.deleting) return say("going", "Deleting", of.message);
  if (failed) return say("notplaced", failed.reason, failed.message);
  if (row.loaded >= row.wanted && row.loaded > 0) return say("loaded");
  if (states.has("loading")) return say("loading", "Loading", entry.message ?? "");
  if (states.has("withheld")) return say("withheld", entry.reason ?? "PodsNotReady", entry.message ?? "");
  if (states.has("going") && !states.has("loaded")) return say("going", entry.reason ?? "", entry.message ?? "");
  const reason = entry.reason ?? of?.reason ?? "";
  const message = entry.message ?? of?.message ?? "";
  if (CALM[reason]) return say(CALM[reason], reason, message);
  // some replicas answer, and what the resource complains of is another of its adapters
  if (row.loaded > 0 && (of?.ready || of?.failed.length)) return say("loading", "Loading", "");
  return say("notplaced", reason, message);
}

// What needs a person, the same thing once: adapters without a place, LoraAdapters without adapters, wrong pods.
export function problemsOf(model, derived) {
  const found = [];
  const add = (kind, namespace, name, more) => found.push({ kind, namespace, name, key: `${kind} ${more.resource ?? ""} ${namespace}/${name}`, ...more });
  const seen = new Set();
  for (const row of derived.rows.values()) {
    seen.add(keyOf(row.namespace, row.resource));
    if (row.state === "notplaced") {
      const { resource, model: base, reason, message } = row;
      add("adapter", row.namespace, row.name, { resource, model: base, reason, message, pods: row.failed?.pods ?? [], loaded: row.loaded, wanted: row.wanted });
    }
  }
  for (const [key, one] of model.resources) {
    for (const failed of one.failed) {
      if (derived.rows.get(keyOf(one.namespace, failed.name))?.resource !== one.name) {
        add("adapter", one.namespace, failed.name, { resource: one.name, model: one.baseModel, reason: failed.reason, message: failed.message, pods: failed.pods, loaded: 0, wanted: 0 });
        seen.add(key);
      }
    }
    if (!one.ready && !one.deleting && !seen.has(key) && !(one.reason in CALM)) {
      add("resource", one.namespace, one.name, { resource: one.name, model: one.baseModel, reason: one.reason, message: one.message, pods: [] });
    }
  }
  for (const pod of derived.columns.values()) {
    if (pod.problems.length) {
      add("pod", pod.namespace, pod.name, { model: pod.model, reason: "WrongPod", message: pod.problems.join("; "), pods: [] });
    }
  }
  return found.sort((a, b) => COLLATOR.compare(a.reason, b.reason) || COLLATOR.compare(a.key, b.key));
}
