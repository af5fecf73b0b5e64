"""Tables that show several figures of each method together, as none of them means much alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bench.figures import percentile
from bench.placement.contenders import OURS, REPAIR_ONLY
from bench.placement.goals import chosen
from bench.placement.records import Record

Rows = list[tuple[str, ...]]
# the first-fit family leaves so much unplaced that its moves say nothing: left to the records
TELLING = (OURS, REPAIR_ONLY, "least adapters", "least loaded", "bounded-load rendezvous", "min-cost flow")


def tables(records: Sequence[Record]) -> Iterator[tuple[str, Rows]]:
    """(title, rows with a head), those that there are records for."""
    for size in sorted({one["size"] for one in chosen(records, "cold")}, key=len):
        yield f"cold, {size}", _cold(chosen(records, "cold", size=size))
    for size in sorted({one["size"] for one in chosen(records, "churn")}, key=len):
        yield f"changes, {size}", _churn(chosen(records, "churn", size=size))
    waves = chosen(records, "arrivals", what="wave")
    if waves:
        yield "important adapters arrive in fleets in 98 % use", _waves(waves)
    events = chosen(records, "events")
    if events:
        yield f"one event, {events[0]['size']}, in ms", _events(events)


def methods(records: Sequence[Record]) -> list[str]:
    """In the order in which they were measured."""
    return list(dict.fromkeys(one["method"] for one in records))


def _cold(records: Sequence[Record]) -> Rows:
    rows: Rows = [("method", "fleets", "copies unplaced, most", "of", "imbalance p50", "max", "badly spread")]
    fair = [one for one in records if one["bound"] is not None]
    for name in methods(fair):
        own = [one for one in fair if one["method"] == name]
        worst = max(own, key=lambda one: one["missing"] - one["least_missing"])
        imbalance = [one["imbalance"] for one in own]
        rows.append((
            name, str(len(own)), str(worst["missing"]), str(worst["copies_wanted"]),
            f"{percentile(imbalance, 50):.3f}", f"{max(imbalance):.3f}", str(sum(one["skewed"] for one in own)),
        ))  # fmt: skip
    return rows


def _churn(records: Sequence[Record]) -> Rows:
    head = ("change", "method", "loads", "least", "÷", "to even out", "imbalance p50", "max", "unplaced", "rounds")
    rows: Rows = [head]
    for change in dict.fromkeys(one["change"] for one in records):
        for name in TELLING:
            own = [one for one in records if one["method"] == name and one["change"] == change]
            if not own:
                continue
            loads, least = sum(one["loads"] for one in own), sum(one["minimum"] for one in own)
            imbalance = [one["imbalance"] for one in own]
            settled = all(one["settled"] for one in own)
            rows.append((
                change, name, str(loads), str(least), f"{loads / least:.2f}" if least else "",
                str(sum(one["to_even_out"] for one in own)), f"{percentile(imbalance, 50):.3f}",
                f"{max(imbalance):.3f}", str(max(one["missing"] for one in own)),
                str(max(one["rounds"] for one in own)) + ("" if settled else ", not settled"),
            ))  # fmt: skip
    return rows


def _waves(records: Sequence[Record]) -> Rows:
    rows: Rows = [("size", "pods", "method", "arrived", "inversions", "evicted", "least", "loads", "rounds")]
    for one in records:
        if one["method"] in TELLING and one["method"] != REPAIR_ONLY:
            rows.append((
                one["size"], "mixed" if one["mixed"] else "equal", one["method"], str(one["arrived"]),
                str(one["inversions"]), str(one["evicted"]), str(one["least_evicted"]), str(one["loads"]),
                str(one["rounds"]),
            ))  # fmt: skip
    return rows


def _events(records: Sequence[Record]) -> Rows:
    rows: Rows = [("event", "runs", "p50", "p99", "max")]
    for one in records:
        taken = [1e3 * seconds for seconds in one["seconds"] if one["method"] == OURS]
        parts = (percentile(taken, 50), percentile(taken, 99), max(taken))
        rows.append((one["what"], str(len(taken)), *(f"{part:.2f}" for part in parts)))
    return rows
