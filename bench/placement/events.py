"""What one event costs in a large fleet that is at rest: the time of one `Planner.update`, by kind of event."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from bench.placement.contenders import OURS, populated
from bench.placement.fleets import LARGE, MIDDLE, Shape, another, build
from bench.placement.records import Record, record
from lora_scheduler import Adapter, Load, Plan, Planner, Pod, Resident, plan

RUNS, CROWDED_RUNS = 40, 10  # of each kind of event
REPORT = "pod reports"


@dataclass(slots=True)
class _Fleet:
    """The fleet that the planner is told of, change by change."""

    planner: Planner
    adapters: dict[str, Adapter]
    pods: dict[str, Pod]
    seconds: dict[str, list[float]]

    def tell(self, what: str, **change: Any) -> Plan:
        """One update, timed; then its actions are carried out, each pod reporting for itself, timed too."""
        made = self._timed(what, change)
        while made.actions:
            touched: dict[str, list[Any]] = {}
            for action in made.actions:
                touched.setdefault(action.pod, []).append(action)
            for key, actions in touched.items():
                made = self._timed(REPORT, {"pods": [self._carried_out(self.pods[key], actions)]})
        return made

    def _timed(self, what: str, change: dict[str, Any]) -> Plan:
        started = time.process_time()
        made = self.planner.update(**change)
        self.seconds.setdefault(what, []).append(time.process_time() - started)
        self.adapters |= {adapter.key: adapter for adapter in change.get("adapters", ())}
        self.pods |= {pod.key: pod for pod in change.get("pods", ())}
        for key in change.get("removed_adapters", ()):
            del self.adapters[key]
        for key in change.get("removed_pods", ()):
            del self.pods[key]
        return made

    def _carried_out(self, pod: Pod, actions: list[Any]) -> Pod:
        gone = {action.name for action in actions if not isinstance(action, Load)}
        stay = [resident for resident in pod.residents if resident.name not in gone]
        for action in actions:
            if isinstance(action, Load):
                adapter = self.adapters[action.adapter]
                stay.append(Resident(adapter.name, adapter.bytes, adapter.rank, adapter.key, adapter.version))
        return replace(pod, residents=tuple(stay))


def measure(quick: bool) -> Iterator[Record]:
    """`seconds` per kind of event; what follows from it (loads, unloads reported) counts as events of its own. In a
    fleet with room, and in one where a quarter of what is wanted has none."""
    size = MIDDLE if quick else LARGE
    yield from _measure("events", Shape(*size, 1.0, 0.8), RUNS)
    yield from _measure("crowded", Shape(*size, 1.0, 1.3, priorities=4), CROWDED_RUNS)


def _measure(section: str, shape: Shape, runs: int) -> Iterator[Record]:
    fleet = _at_rest(shape)
    rng = random.Random("events")
    for _ in range(runs):
        _one_of_each(fleet, rng)
    for what, seconds in fleet.seconds.items():
        yield record(section, shape, OURS, what=what, seconds=seconds)


def _at_rest(shape: Shape) -> _Fleet:
    empty = build(shape)
    full = populated(empty, plan(empty).assignments)
    planner = Planner()
    planner.plan(full)
    adapters = {adapter.key: adapter for adapter in full.adapters}
    return _Fleet(planner, adapters, {pod.key: pod for pod in full.pods}, {})


def _one_of_each(fleet: _Fleet, rng: random.Random) -> None:
    pod = _any(fleet.pods, rng)
    fleet.tell("replica lost", pods=[replace(pod, residents=pod.residents[1:])])
    pod = _any(fleet.pods, rng)
    fleet.tell("pod unready, held", pods=[replace(pod, ready=False, held=True)])
    fleet.tell("pod ready again", pods=[replace(fleet.pods[pod.key], ready=True, held=False)])
    pod = _any(fleet.pods, rng)
    fleet.tell("pod lost", removed_pods=[pod.key])
    fleet.tell("pod added", pods=[replace(pod, key=f"{pod.key}-new", residents=())])
    adapter = _any(fleet.adapters, rng)
    fleet.tell("demand changed", adapters=[replace(adapter, demand=(adapter.demand or 0) * 1.25)])
    new = another(f"new-{len(fleet.seconds['replica lost'])}", rng, demand=0.5, age_rank=len(fleet.adapters))
    fleet.tell("adapter added", adapters=[new])
    fleet.tell("adapter removed", removed_adapters=[_any(fleet.adapters, rng).key])


def _any(known: dict[str, Any], rng: random.Random) -> Any:
    return known[rng.choice(sorted(known))]
