"""Tables that show several figures of each method together, as none of them means much alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bench.figures import percentile
from bench.placement.contenders import OURS, REPAIR_ONLY
from bench.placement.fleets import REQUESTS_PER_POD
from bench.placement.goals import chosen, of_bound
from bench.placement.records import Record

Rows = list[tuple[str, ...]]
# the first-fit family leaves so much unplaced that its moves say nothing: left to the records
TELLING = (OURS, REPAIR_ONLY, "least adapters", "least loaded", "bounded-load rendezvous", "min-cost flow")

LEGEND = (
    "least loads of all such changes (lost replicas + what must move to even out to 1.1); per method the loads, "
    "imbalance p50–max, the most replicas unplaced, and the most plans until all is at rest"
)


def tables(records: Sequence[Record]) -> Iterator[tuple[str, Rows]]:
    """(title, rows with a head), those that there are records for."""
    for size in sorted({one["size"] for one in chosen(records, "cold")}, key=len):
        yield f"cold, {size}", _cold(chosen(records, "cold", size=size))
    for size in sorted({one["size"] for one in chosen(records, "churn")}, key=len):
        yield f"changes, {size}: {LEGEND}", _churn(chosen(records, "churn", size=size))
    auto = chosen(records, "auto")
    if auto:
        yield "replicas that follow demand (Auto)", _auto(auto)
    waves = chosen(records, "arrivals", what="wave")
    if waves:
        yield "important adapters arrive in fleets in 98 % use", _waves(waves)
    events = chosen(records, "events")
    if events:
        yield f"one event, {events[0]['size']}, in ms", _events(events)
    crowded = chosen(records, "crowded")
    if crowded:
        yield f"one event where 130 % is wanted at 4 priorities, {crowded[0]['size']}, in ms", _events(crowded)


def methods(records: Sequence[Record]) -> list[str]:
    """In the order in which they were measured."""
    return list(dict.fromkeys(one["method"] for one in records))


def _cold(records: Sequence[Record]) -> Rows:
    head = (
        "method",
        "fleets",
        "largest load ÷ least possible p50",
        "max",
        "most replicas unplaced",
        "inevitable",
        "of",
    )
    rows: Rows = [(*head, "least demand served", "badly spread")]
    fair = [one for one in records if one["least_missing"] is not None]
    for name in methods(fair):
        own = [one for one in fair if one["method"] == name]
        worst = max(own, key=lambda one: one["missing"] - one["least_missing"])
        of_least = [value for one in own if (value := of_bound(one)) is not None]
        rows.append((
            name, str(len(own)), f"{percentile(of_least, 50):.3f}", f"{max(of_least):.3f}", str(worst["missing"]),
            str(worst["least_missing"]), str(worst["replicas_wanted"]),
            f"{100 * min(served for one in own if (served := _served(one)) is not None):.1f} %",
            str(sum(one["skewed"] for one in own)),
        ))  # fmt: skip
    return rows


def _served(one: Record) -> float | None:
    """The part of all demand that has a replica; None where demand is unknown."""
    return sum(one["served"].values()) / (REQUESTS_PER_POD * one["pods"]) if one["zipf"] > 0 else None


def _churn(records: Sequence[Record]) -> Rows:
    """One row per change; in each cell what one method moved, how even that left the load, and what is unplaced."""
    shown = [name for name in TELLING if any(one["method"] == name for one in records)]
    rows: Rows = [("change", "least", *shown)]
    for change in dict.fromkeys(one["change"] for one in records):
        own = {name: [r for r in records if r["method"] == name and r["change"] == change] for name in shown}
        least, further = (sum(one[what] for one in own[OURS]) for what in ("minimum", "to_even_out"))
        rows.append((change, f"{least} + {further}", *(_moved(own[name]) for name in shown)))
    return rows


def _moved(records: Sequence[Record]) -> str:
    loads, imbalance = sum(one["loads"] for one in records), [one["imbalance"] for one in records]
    missing, rounds = max(one["missing"] for one in records), max(one["rounds"] for one in records)
    parts = [f"{loads}", f"{percentile(imbalance, 50):.2f}–{max(imbalance):.2f}"]
    parts += [f"{missing} unplaced"] if missing else []
    parts += [f"{rounds} plans"] if rounds > 1 else []
    return ", ".join(parts) + ("" if all(one["settled"] for one in records) else ", not at rest")


def _auto(records: Sequence[Record]) -> Rows:
    head = (
        "size",
        "change",
        "times",
        "replicas before",
        "after",
        "loads",
        "imbalance p50–max",
        "hottest replica ÷ mean load",
    )
    rows: Rows = [head]
    for size, change in dict.fromkeys((one["size"], one["change"]) for one in records):
        own = [one for one in records if (one["size"], one["change"]) == (size, change)]
        imbalance = [one["imbalance"] for one in own]
        sums = [str(sum(one[what] for one in own)) for what in ("replicas_before", "replicas_after", "loads")]
        hottest = max(one["hottest_share"] for one in own)
        spread = f"{percentile(imbalance, 50):.2f}–{max(imbalance):.2f}"
        rows.append((size, change, str(len(own)), *sums, spread, f"{hottest:.2f}"))
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
