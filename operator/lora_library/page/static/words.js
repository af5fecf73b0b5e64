// Times, states and uses in words.

const MOMENT = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "short" });
const SPAN = new Intl.RelativeTimeFormat("en-GB", { numeric: "auto" });
const UNITS = [["year", 31536000], ["month", 2592000], ["day", 86400], ["hour", 3600], ["minute", 60]];
const STATES = {
  Loaded: "loaded", OnDemand: "on demand", Failed: "failed", Unknown: "not known", quarantined: "quarantined", rejected: "rejected",
};

export const moment = (text) => (text ? MOMENT.format(new Date(text)) : "");

export function ago(text) {
  const seconds = (new Date(text) - Date.now()) / 1000;
  const unit = UNITS.find(([, length]) => Math.abs(seconds) >= length);
  return unit ? SPAN.format(Math.round(seconds / unit[1]), unit[0]) : "just now";
}

export const stateWords = (one) => STATES[one.state] ?? one.state;

// What is not known is said so: it is no "never".
export function useWords(one) {
  if (one.last_used_at) return ago(one.last_used_at);
  return "none known";
}

export const tagsOf = (text) => text.split(",").map((one) => one.trim()).filter(Boolean);
