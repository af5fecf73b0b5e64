// States in words, for tips, details and screen readers.

import { bytes, plural } from "./numbers.js";

const CELLS = {
  loaded: "loaded", loading: "loading", going: "going", withheld: "withheld", refused: "refused",
};
const ROWS = {
  loaded: "loaded", loading: "loading", going: "going", withheld: "withheld", cold: "on demand", waiting: "waiting", notplaced: "not placed",
};
const STAGES = { Fetching: "fetching", Loading: "loading", Withdrawing: "withdrawn", Unloading: "unloading", Terminating: "pod ends", NotReady: "not ready",
  Restarted: "restarted and empty" };

export const stateWord = (cell) => (cell.state === "refused" ? cell.why : STAGES[cell.why] ?? CELLS[cell.state]);
export const rowState = (row) => (row.reason === "ScaledToZero" ? "scaled to zero" : ROWS[row.state] ?? row.state);

export function cellWords(row, pod) {
  const cell = row.cells.get(pod.key);
  if (!cell) return `${row.name} is not on ${pod.name}`;
  const parts = [`${row.name} on ${pod.name}: ${CELLS[cell.state]}`];
  if (cell.updating) parts.push("another version is being loaded");
  if (cell.why && cell.state !== "refused") parts.push(STAGES[cell.why] ?? cell.why);
  if (cell.percent) parts.push(`${cell.percent} % fetched`);
  if (cell.state === "refused") parts.push(`${cell.why}: ${cell.message}`);
  if (cell.engineName && cell.engineName !== row.name) parts.push(`the engine calls it ${cell.engineName}`);
  return parts.join("; ");
}

export function rowWords(row) {
  const replicas = replicaWords(row);
  const size = row.bytes === null ? "" : `, ${bytes(row.bytes)}, rank ${row.rank}`;
  const why = row.state === "loaded" || !row.reason ? "" : `; ${row.reason}${row.message ? `: ${row.message}` : ""}`;
  return `${row.namespace}/${row.name}: ${rowState(row)}, ${replicas}${size}${why}`;
}

// An adapter that is loaded on demand may have a replica that nobody wants at present.
export function replicaWords(row) {
  if (row.wanted) return `${row.loaded} of ${row.wanted} replicas`;
  return row.loaded ? plural(row.loaded, "spare replica", "spare replicas") : "no replicas wanted";
}

export function podWords(pod) {
  const memory = pod.memoryBytes === null ? `${bytes(pod.usedBytes)}, no budget` : `${bytes(pod.usedBytes)} of ${bytes(pod.memoryBytes)}`;
  return `${pod.namespace}/${pod.name} (${pod.model}): ${podState(pod)}, ${memory}, ${pod.usedSlots} of ${pod.hostSlots} slots`;
}

export function podState(pod) {
  const words = { Ready: "ready", NotReady: "not ready", Terminating: "terminating" };
  return pod.leaving ? `${words[pod.state]}, takes part no more` : (words[pod.state] ?? pod.state);
}
