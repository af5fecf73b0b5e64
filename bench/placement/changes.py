"""What happens to fleets: traces of changes, each given as the whole fleet after it, without residents."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from bench.placement.fleets import REQUESTS_PER_POD, ZONE, another
from lora_scheduler import Pod, Snapshot

FLASH, FLASH_FACTOR = 0.01, 20.0
HOURS = 12
TURNOVER = 0.05


@dataclass(frozen=True, slots=True)
class Change:
    """`what` names the kind of change: figures are summed up by it."""

    what: str
    fleet: Snapshot


Trace = Callable[[Snapshot, random.Random, int], Iterator[Change]]


def pods_come_and_go(fleet: Snapshot, rng: random.Random, times: int) -> Iterator[Change]:
    """A pod is lost, then an empty one takes its place; again and again."""
    for _ in range(times):
        lost = rng.choice(fleet.pods)
        left = tuple(pod for pod in fleet.pods if pod.key != lost.key)
        yield Change("pod loss", replace(fleet, pods=left))
        fleet = replace(fleet, pods=(*left, _fresh(lost)))
        yield Change("pod addition", fleet)


def drains(fleet: Snapshot, rng: random.Random, times: int) -> Iterator[Change]:
    """A pod is drained, goes when it is empty, and an empty one takes its place."""
    for _ in range(times):
        chosen = rng.choice(fleet.pods)
        left = tuple(pod for pod in fleet.pods if pod.key != chosen.key)
        yield Change("drain", replace(fleet, pods=(*left, replace(chosen, draining=True))))
        fleet = replace(fleet, pods=(*left, _fresh(chosen)))
        yield Change("return after drain", fleet)


def zone_fails(fleet: Snapshot, rng: random.Random, times: int) -> Iterator[Change]:
    """A third of the pods is lost at once, and comes back empty."""
    for _ in range(max(1, times // 5)):
        zone = rng.choice(sorted({pod.node_labels[ZONE] for pod in fleet.pods}))
        left = tuple(pod for pod in fleet.pods if pod.node_labels[ZONE] != zone)
        yield Change("zone loss", replace(fleet, pods=left))
        fleet = replace(fleet, pods=(*left, *(_fresh(pod) for pod in fleet.pods if pod.node_labels[ZONE] == zone)))
        yield Change("zone return", fleet)


def crowds(fleet: Snapshot, rng: random.Random, times: int) -> Iterator[Change]:
    """One adapter in a hundred is asked for twenty times as much for a while."""
    for _ in range(max(1, times // 2)):
        count = max(1, round(FLASH * len(fleet.adapters)))
        factors = dict.fromkeys((adapter.key for adapter in rng.sample(fleet.adapters, count)), FLASH_FACTOR)
        yield Change("flash crowd", _demanding(fleet, factors))
        yield Change("crowd gone", fleet)


def days(fleet: Snapshot, rng: random.Random, times: int) -> Iterator[Change]:
    """Demand goes up and down over a day by a factor of nine, at other hours for other adapters."""
    phase = {adapter.key: rng.random() for adapter in fleet.adapters}
    for hour in range(HOURS):
        at = hour / HOURS
        factors = {key: 1.0 + 0.8 * math.sin(2 * math.pi * (at + own)) for key, own in phase.items()}
        yield Change("hour of a day", _demanding(fleet, factors))


def adapters_come_and_go(fleet: Snapshot, rng: random.Random, times: int) -> Iterator[Change]:
    """One adapter in twenty is withdrawn, and as many new ones are asked for."""
    known = len(fleet.adapters)
    for _ in range(max(1, times // 2)):
        count = max(1, round(TURNOVER * len(fleet.adapters)))
        gone = {adapter.key for adapter in rng.sample(fleet.adapters, count)}
        left = tuple(adapter for adapter in fleet.adapters if adapter.key not in gone)
        small = REQUESTS_PER_POD * len(fleet.pods) / len(fleet.adapters) / 4
        new = tuple(
            another(f"a{known + number:05d}", rng, demand=round(small * rng.random(), 6), age_rank=known + number)
            for number in range(count)
        )
        known += count
        fleet = replace(fleet, adapters=(*left, *new))
        yield Change("adapter turnover", fleet)


TRACES: dict[str, tuple[Trace, float]] = {
    # with the use of the fleet that each begins with
    "pods": (pods_come_and_go, 0.8),
    "drain": (drains, 0.8),
    "zone": (zone_fails, 0.6),
    "crowd": (crowds, 0.8),
    "day": (days, 0.8),
    "adapters": (adapters_come_and_go, 0.8),
}


def _fresh(pod: Pod) -> Pod:
    """A new pod in the place of another one, on the same node, as an orchestrator makes it."""
    base, _, number = pod.key.partition(".")
    return replace(pod, key=f"{base}.{int(number or 0) + 1}", draining=False)


def _demanding(fleet: Snapshot, factors: Mapping[str, float]) -> Snapshot:
    """With the demand of some adapters multiplied."""
    return replace(
        fleet,
        adapters=tuple(
            adapter if adapter.demand is None else replace(adapter, demand=round(adapter.demand * factor, 6))
            for adapter in fleet.adapters
            for factor in (factors.get(adapter.key, 1.0),)
        ),
    )
