"""What planning costs where adapters or pods are of a special kind: on every pod, spread over zones, following demand,
each with a selector of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from typing import Any

from bench.placement.contenders import OURS, populated
from bench.placement.fleets import LARGE, MIDDLE, ZONE, Replicas, Shape, build
from bench.placement.records import Record, record
from bench.placement.timings import timed
from lora_scheduler import Planner, Pod, ReplicaPolicy, Selector, Snapshot, plan

Change = dict[str, Any]  # arguments of Planner.update
EVENTS = 20
SELECTORS = 2_000
GOALS_MS = {
    "nothing is new": 1.0,
    "AllPods, a pod is added": 100.0,
    "4 replicas over 3 zones, a pod is lost": 10.0,
    "Auto, a pod is lost": 10.0,
    "selectors, cold": 800.0,
}


def measure(quick: bool) -> Iterator[Record]:
    """`seconds` of each; but for the last one those of one `Planner.update`."""
    adapters, pods = MIDDLE if quick else LARGE
    fleet = build(Shape(adapters, pods, 1.0, 0.8))
    yield _record("nothing is new", adapters, pods, _events(fleet, lambda pod: ({}, {})))
    few = (100, 10) if quick else MIDDLE
    everywhere = build(Shape(*few, 1.0, 0.5))
    everywhere = replace(
        everywhere,
        adapters=tuple(replace(one, replica_policy=ReplicaPolicy.ALL_PODS) for one in everywhere.adapters),
        pods=tuple(replace(pod, host_slots=2 * few[0], memory_bytes=None) for pod in everywhere.pods),
    )
    yield _record("AllPods, a pod is added", *few, _events(everywhere, _addition))
    zoned = build(Shape(adapters // 4, pods, 1.0, 0.2))
    zoned = replace(zoned, adapters=tuple(replace(one, replicas=4, topology_key=ZONE) for one in zoned.adapters))
    yield _record("4 replicas over 3 zones, a pod is lost", adapters // 4, pods, _events(zoned, _loss))
    following = build(Shape(adapters, pods, 1.0, 0.6, replicas=Replicas.AUTO))
    yield _record("Auto, a pod is lost", adapters, pods, _events(following, _loss))
    chosen = replace(
        fleet,
        adapters=tuple(
            replace(one, selector=Selector((("slice", str(number % (SELECTORS * adapters // LARGE[0]) % pods)),)))
            for number, one in enumerate(fleet.adapters)
        ),
        pods=tuple(replace(pod, labels={"slice": str(number)}) for number, pod in enumerate(fleet.pods)),
    )
    yield _record("selectors, cold", adapters, pods, timed(partial(plan, chosen), 0.5 if quick else 4.0))


def _addition(pod: Pod) -> tuple[Change, Change]:
    added = replace(pod, key=f"{pod.key}-new", residents=())
    return {"pods": [added]}, {"removed_pods": [added.key]}


def _loss(pod: Pod) -> tuple[Change, Change]:
    return {"removed_pods": [pod.key]}, {"pods": [pod]}


def _events(fleet: Snapshot, about: Callable[[Pod], tuple[Change, Change]]) -> list[float]:
    """Updates in a fleet where all is loaded, each about another pod, and after each the one that undoes it."""
    full = populated(fleet, plan(fleet).assignments)
    planner = Planner(remember=True)
    planner.plan(full)
    planner.plan(full)
    seconds = []
    for pod in full.pods[:: max(1, len(full.pods) // EVENTS)][:EVENTS]:
        change, undone = about(pod)
        started = time.process_time()
        planner.update(**change)
        seconds.append(time.process_time() - started)
        planner.update(**undone)
    return seconds


def _record(what: str, adapters: int, pods: int, seconds: list[float]) -> Record:
    return record("special", Shape(adapters, pods), OURS, what=what, seconds=seconds)
