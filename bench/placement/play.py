"""Plays a fleet through plan and simulate until there is nothing left to do, and counts what that took."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from bench.placement.quality import budget_bytes
from lora_scheduler import Load, LoadCause, Plan, Snapshot, UnloadCause, simulate

MakePlan = Callable[[Snapshot], Plan]


@dataclass(frozen=True, slots=True)
class Played:
    """`rounds` counts the plans that had actions. `over_limit`: moments at which a pod was beyond a limit."""

    snapshot: Snapshot
    rounds: int
    loads: int
    unloads: int
    preempted: int
    causes: dict[LoadCause, int]
    over_limit: int
    settled: bool


def settle(snapshot: Snapshot, planned: MakePlan, most_rounds: int) -> Played:
    """Everything of a plan happens, then the next plan is made, until one is empty or `most_rounds` had actions."""
    rounds = loads = unloads = preempted = over = 0
    causes: dict[LoadCause, int] = {}
    while True:
        made = planned(snapshot)
        if not made.actions or rounds == most_rounds:
            settled = not made.actions
            return Played(snapshot, rounds, loads, unloads, preempted, causes, over, settled)
        rounds += 1
        for action in made.actions:
            if isinstance(action, Load):
                loads += 1
                causes[action.cause] = causes.get(action.cause, 0) + 1
            else:
                unloads += 1
                preempted += action.cause is UnloadCause.PREEMPTED
        over += _over_with_all_loads(snapshot, made)
        snapshot = simulate(snapshot, made, settle=True)


def _over_with_all_loads(snapshot: Snapshot, made: Plan) -> int:
    """Pods that all loads together take over a limit before any unload has happened: the worst order there is."""
    adapters = {adapter.key: adapter for adapter in snapshot.adapters}
    loads: dict[str, list[Load]] = {}
    for action in made.actions:
        if isinstance(action, Load):
            loads.setdefault(action.pod, []).append(action)
    over = 0
    for pod in snapshot.pods:
        coming = [adapters[load.adapter] for load in loads.get(pod.key, ())]
        size = sum(r.bytes for r in pod.residents) + sum(adapter.bytes for adapter in coming)
        too_many = len(pod.residents) + len(coming) > pod.host_slots
        too_large = size > budget_bytes(pod)
        over += bool(coming) and (too_many or too_large or any(one.rank > pod.max_rank for one in coming))
    return over
