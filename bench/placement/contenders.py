"""The library and the baselines behind one question: this is the fleet now, this is who was where; where is all now?"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

from bench.placement.baselines import BASELINES
from bench.placement.play import settle
from bench.placement.quality import Assignment, held
from lora_scheduler import Planner, Policy, Resident, Snapshot

OURS = "lora-scheduler"
REPAIR_ONLY = "lora-scheduler, repair only"
MOST_ROUNDS = 400


@dataclass(frozen=True, slots=True)
class Outcome:
    """Where all is after a change, and what that took. Baselines are granted one round and perfect order."""

    assignment: Assignment
    loads: int
    rounds: int = 1
    preempted: int = 0
    over_limit: int = 0
    settled: bool = True
    causes: Mapping[str, int] = field(default_factory=dict)


class Placing(Protocol):
    """What a baseline offers."""

    @property
    def name(self) -> str: ...

    def place(self, snapshot: Snapshot, before: Assignment) -> dict[str, tuple[str, ...]]: ...


Advance = Callable[[Snapshot, Assignment], Outcome]


@dataclass(frozen=True, slots=True)
class Contender:
    """`advance` takes the fleet without residents, and who was where. `most_replicas`: what it can do in seconds."""

    name: str
    advance: Advance
    most_replicas: int = 1 << 62


def library(name: str, policy: Policy) -> Contender:
    """The placement library as the operator uses it: the first plan from nothing, the others incrementally."""

    def advance(fleet: Snapshot, before: Assignment) -> Outcome:
        played = settle(populated(fleet, before), Planner(policy, remember=True).plan, MOST_ROUNDS)
        return Outcome(
            held(played.snapshot), played.loads, played.rounds, played.preempted, played.over_limit, played.settled,
            {cause.value: count for cause, count in sorted(played.causes.items())},
        )  # fmt: skip

    return Contender(name, advance)


def without_moves() -> Policy:
    """The default policy, except that nothing that serves is moved, be it for load, for spread or to make room."""
    return Policy(rebalance_epsilon=None, max_moves=0)


def simple(method: Placing, most_replicas: int = 1 << 62) -> Contender:
    """A baseline, whose moves all happen at once."""

    def advance(fleet: Snapshot, before: Assignment) -> Outcome:
        after = method.place(fleet, before)
        return Outcome(after, sum(len(set(pods) - set(before.get(key, ()))) for key, pods in after.items()))

    return Contender(method.name, advance, most_replicas)


def contenders() -> tuple[Contender, ...]:
    """The library first. Raises ImportError without the `bench` extra."""
    from bench.placement.mincostflow import MinCostFlow  # not at the top, as the rest needs no scipy

    return (
        library(OURS, Policy()),
        library(REPAIR_ONLY, without_moves()),
        *(simple(method) for method in BASELINES),
        simple(MinCostFlow(), most_replicas=2_000),
    )


def populated(fleet: Snapshot, assignment: Assignment) -> Snapshot:
    """The fleet with every assigned replica loaded; replicas on pods that are gone are gone."""
    adapters = {adapter.key: adapter for adapter in fleet.adapters}
    residents: dict[str, list[Resident]] = {pod.key: [] for pod in fleet.pods}
    for key, pods in sorted(assignment.items()):
        adapter = adapters.get(key)
        for pod in pods:
            if adapter is not None and pod in residents:
                residents[pod].append(Resident(adapter.name, adapter.bytes, adapter.rank, key, adapter.version))
    return replace(fleet, pods=tuple(replace(pod, residents=tuple(residents[pod.key])) for pod in fleet.pods))
