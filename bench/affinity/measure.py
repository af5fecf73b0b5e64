"""Plays every method on every trace, next to the fewest bytes that any could fetch."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from bench.affinity.choosers import ByPlanner, Chooser, Simple
from bench.affinity.fleet import Fleet
from bench.affinity.replay import replay
from bench.affinity.traces import Shape, Trace, generate
from bench.cache.bound import least_missed
from bench.cache.traces import Item
from bench.cache.traces import Trace as Asks
from bench.figures import Figure, percentile

Record = dict[str, Any]

OURS, BLIND = "lora-scheduler", "lora-scheduler, told of no disks"
METHODS: dict[str, Callable[[Fleet], Chooser]] = {
    OURS: lambda fleet: ByPlanner(fleet, disks=True),
    BLIND: lambda fleet: ByPlanner(fleet, disks=False),
    "random": lambda fleet: Simple("random"),
    "longest unused anywhere": lambda fleet: Simple("residency"),
    "hashed": lambda fleet: Simple("hashed"),
}
FROM_DISK, BYTES = 80.0, 1.5


@dataclass(frozen=True, slots=True)
class Extent:
    """`disks`: what each pod's disk holds, as a part of all that is ever asked for."""

    shape: Shape
    pods: int
    slots: int
    zipfs: Sequence[float]
    disks: Sequence[float] = (0.25, 0.5)


FULL = Extent(Shape(0.9, seconds=2 * 6 * 3600.0), 16, 64, (0.7, 0.9, 1.1))
QUICK = Extent(Shape(0.9, adapters=2500, per_second=0.5, seconds=2 * 6 * 3600.0), 8, 32, (0.9,), (0.25,))


def measure(extent: Extent) -> Iterator[Record]:
    """One record per trace, size of the disks and method."""
    for zipf in extent.zipfs:
        trace = generate(replace(extent.shape, zipf=zipf))
        for part in extent.disks:
            disk_bytes = int(trace.working_set_bytes * part)
            least = least_bytes(trace, disk_bytes * extent.pods)
            for name, chooser in METHODS.items():
                fleet = Fleet(extent.pods, extent.slots, disk_bytes, trace.sizes)
                counts = replay(trace, fleet, chooser(fleet))
                yield {
                    "zipf": zipf, "disk": part, "method": name, "loads": counts.loads, "reloads": counts.reloads,
                    "from_disk": 100 * counts.from_disk / max(counts.reloads, 1), "fetched_bytes": counts.fetched_bytes,
                    "times_least": counts.fetched_bytes / max(least, 1), "p50": percentile(counts.starts, 50),
                    "p99": percentile(counts.starts, 99), "imbalance": percentile(counts.imbalance, 50),
                    "imbalance_p99": percentile(counts.imbalance, 99), "waiting": counts.unanswered,
                }  # fmt: skip


def least_bytes(trace: Trace, disks_bytes: int) -> float:
    """What is to be fetched at least, were all disks one and the future known (see `bench.cache.bound`): whatever
    answers a request has its files on some disk."""
    items = tuple(Item(str(number), size, 0.0) for number, size in enumerate(trace.sizes))
    asked = float(sum(trace.sizes[number] for _, number in trace.asks))
    return asked * least_missed(Asks(items, trace.asks), disks_bytes, lambda item: float(item.size_bytes))


def figures(records: Sequence[Record]) -> list[Figure]:
    """The goals, and how far from them."""

    def of(method: str, what: str) -> tuple[float, ...]:
        return tuple(float(one[what]) for one in records if one["method"] == method)

    disk, least, loads = of(OURS, "from_disk"), of(OURS, "times_least"), of(OURS, "loads")
    more = tuple(ours / blind for ours, blind in zip(loads, of(BLIND, "loads"), strict=True))
    blind = f"told of no disks: {min(of(BLIND, 'from_disk')):.0f}-{max(of(BLIND, 'from_disk')):.0f}"
    return [
        Figure("reloads whose pod has the files", disk, "%", f">= {FROM_DISK:g}", blind, min(disk) >= FROM_DISK),
        Figure("bytes fetched ÷ least possible", least, "", f"<= {BYTES:g}",
               f"told of no disks: {max(of(BLIND, 'times_least')):.1f}", max(least) <= BYTES),
        Figure("loads ÷ those of a planner that is told of no disks", more, "", "<= 1.08", "", max(more) <= 1.08),
        Figure("cold start, p99", of(OURS, "p99"), "s", "", f"told of no disks: {max(of(BLIND, 'p99')):.1f}"),
    ]  # fmt: skip


def rows(records: Sequence[Record]) -> list[list[str]]:
    """All of it, as a table."""
    head = ["Zipf", "disk", "method", "loads", "reloads", "from disk", "GiB", "÷ least", "cold p50", "p99",
            "most in use ÷ mean, p50", "p99"]  # fmt: skip
    lines = [
        [
            f"{one['zipf']:g}", f"{one['disk']:.0%}", one["method"], str(one["loads"]), str(one["reloads"]),
            f"{one['from_disk']:.1f} %", f"{one['fetched_bytes'] / 2**30:.0f}", f"{one['times_least']:.2f}",
            f"{one['p50']:.2f} s", f"{one['p99']:.2f} s", f"{one['imbalance']:.2f}", f"{one['imbalance_p99']:.2f}",
        ]
        for one in records
    ]  # fmt: skip
    return [head, *lines]
