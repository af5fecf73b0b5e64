"""Fleets that change, step by step: what each method moves, how even it leaves the load, what it leaves unplaced."""

from __future__ import annotations

import random
from collections.abc import Iterator

from bench.placement.changes import TRACES
from bench.placement.contenders import OURS, REPAIR_ONLY, Contender
from bench.placement.fleets import LARGE, MIDDLE, SMALL, Replicas, Shape, build
from bench.placement.quality import Assignment, quality, usable, wanted_replicas
from bench.placement.records import Record, record
from lora_scheduler import Snapshot

AT_LARGE = (OURS, REPAIR_ONLY, "least loaded")
EVEN = 1.1  # the imbalance that a rebalance should reach


def measure(methods: tuple[Contender, ...], quick: bool) -> Iterator[Record]:
    """`minimum`: replicas that lack a place after the change; `to_even_out`: further moves without which no method
    could bring the imbalance down to 1.1. Section "auto": only the library, with replicas that follow demand."""
    for shape, name, times in plays(quick):
        fleet = build(shape)
        changes = list(TRACES[name][0](fleet, random.Random(f"trace {name} {shape.seed}"), times))
        large, auto = (shape.adapters, shape.pods) == LARGE, shape.replicas is Replicas.AUTO
        for method in methods:
            if (large and method.name not in AT_LARGE) or (auto and method.name != OURS):
                continue
            assignment = method.advance(fleet, {}).assignment
            for step, change in enumerate(changes):
                minimum, to_even_out = least_moves(change.fleet, assignment)
                replicas = sum(map(len, assignment.values()))
                outcome = method.advance(change.fleet, assignment)
                assignment = outcome.assignment
                yield record(
                    "auto" if auto else "churn", shape, method.name, quality(change.fleet, assignment), trace=name,
                    change=change.what, step=step, minimum=minimum, to_even_out=to_even_out, loads=outcome.loads,
                    rounds=outcome.rounds, settled=outcome.settled, over_limit_on_the_way=outcome.over_limit,
                    causes=dict(outcome.causes), replicas_before=replicas,
                    replicas_after=sum(map(len, assignment.values())),
                    hottest_share=hottest_share(change.fleet, assignment),
                )  # fmt: skip


def plays(quick: bool) -> Iterator[tuple[Shape, str, int]]:
    """(fleet to begin with, name of the trace, how often what it does is repeated)."""
    for adapters, pods in (SMALL, MIDDLE):
        for name, (_, use) in TRACES.items():
            if pods <= 10 or not quick or name in ("pods", "crowd"):
                yield Shape(adapters, pods, 1.0, use), name, 3 if quick else 10
        for name in ("crowd", "day"):
            if pods <= 10 or not quick:
                yield Shape(adapters, pods, 1.2, 0.6, replicas=Replicas.AUTO), name, 3 if quick else 10
    if not quick:
        yield Shape(*LARGE, 1.0, 0.8), "pods", 3


def hottest_share(fleet: Snapshot, assignment: Assignment) -> float:
    """The load of the hottest replica, as a part of a pod's mean load."""
    mean = sum(adapter.demand or 0.0 for adapter in fleet.adapters) / max(sum(map(usable, fleet.pods)), 1)
    hottest = max((a.demand or 0.0) / max(len(assignment.get(a.key, ())), 1) for a in fleet.adapters)
    return hottest / (mean or 1.0)


def least_moves(fleet: Snapshot, before: Assignment) -> tuple[int, int]:
    """(replicas that lack, further replicas that must leave pods which are too hot with what they have already).

    Replicas are shed largest first, so that no method needs fewer.
    """
    loads: dict[str, list[float]] = {pod.key: [] for pod in fleet.pods if usable(pod)}
    lacking, largest, total = 0, 0.0, 0.0
    for adapter in fleet.adapters:
        there = [key for key in before.get(adapter.key, ()) if key in loads]
        wanted = wanted_replicas(adapter, tuple(there))
        lacking += max(wanted - len(there), 0)
        demand = 1.0 if adapter.demand is None else adapter.demand
        share = demand / max(wanted, 1)
        total, largest = total + demand, max(largest, share)
        for key in there:
            loads[key].append(share)
    level = EVEN * max(total / max(len(loads), 1), largest)
    return lacking, sum(_shed(sorted(shares, reverse=True), level) for shares in loads.values())


def _shed(shares: list[float], level: float) -> int:
    load, count = sum(shares), 0
    while load > level + 1e-9:
        load -= shares[count]
        count += 1
    return count
