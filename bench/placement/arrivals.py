"""Preemption: the fewest victims, checked by trying every set on small fleets; and a wave of important newcomers."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import combinations

from bench.placement.contenders import OURS, Contender, populated
from bench.placement.fleets import BASE_MODEL, MIDDLE, SMALL, Shape, another, build
from bench.placement.quality import Assignment, is_over, quality
from bench.placement.records import Record, record
from lora_scheduler import Adapter, Pod, Snapshot, Unload, UnloadCause, plan

IMPORTANT = 9
WAVE = 0.05
CASES = 300
Price = tuple[int, int]  # highest priority among the victims, how many


def measure(methods: tuple[Contender, ...], quick: bool) -> Iterator[Record]:
    """`beyond_minimum`: small fleets in which other than the cheapest victims went, out of `cases`. Waves: `evicted`
    replicas that were there and are nowhere now, next to `least_evicted`."""
    rng = random.Random("arrivals")
    dearer = 0
    for _ in range(CASES):
        fleet, before, newcomer = small_case(rng)
        price = cheapest(fleet, before, newcomer)
        dearer += price is not None and taken(fleet, before, newcomer) > price
    yield record("arrivals", Shape(7, 3), OURS, what="small", cases=CASES, beyond_minimum=dearer)
    for adapters, pods in (SMALL,) if quick else (SMALL, MIDDLE):
        for mixed in (False, True):
            shape = Shape(adapters, pods, 1.0, 0.98, mixed=mixed, priorities=3)
            fleet = build(shape)
            count = max(2, round(WAVE * adapters))
            wave = tuple(another(f"z{n}", rng, demand=1.0, priority=IMPORTANT, age_rank=adapters) for n in range(count))
            grown = replace(fleet, adapters=(*fleet.adapters, *wave))
            for method in methods:
                before = method.advance(fleet, {}).assignment
                outcome = method.advance(grown, before)
                least = _least_evicted(fleet, before, wave)
                yield record(
                    "arrivals", shape, method.name, quality(grown, outcome.assignment), what="wave",
                    loads=outcome.loads, evicted=_evicted(before, outcome.assignment), least_evicted=least,
                    preempted=outcome.preempted, rounds=outcome.rounds, settled=outcome.settled,
                    over_limit_on_the_way=outcome.over_limit, arrived=count,
                )  # fmt: skip


def small_case(rng: random.Random) -> tuple[Snapshot, Assignment, Adapter]:
    """A few full pods, and an adapter that wants in."""
    adapters: list[Adapter] = []
    pods, before = [], {}
    for number in range(rng.randint(1, 3)):
        there = []
        for _ in range(rng.randint(1, 5)):
            key = f"a{len(adapters)}"
            priority = rng.randint(0, 3)
            there.append(Adapter(key, key, BASE_MODEL, "v1", rng.randint(1, 5), 8, priority=priority))
            adapters.append(there[-1])
            before[key] = (f"p{number}",)
        room = sum(adapter.bytes for adapter in there) + rng.randint(0, 1)
        slots = len(there) + rng.randint(0, 1)
        pods.append(Pod(f"p{number}", BASE_MODEL, slots, 8, room))
    newcomer = Adapter("z", "z", BASE_MODEL, "v1", rng.randint(1, 8), 8, priority=3)
    return Snapshot((*adapters, newcomer), tuple(pods)), before, newcomer


def cheapest(fleet: Snapshot, before: Assignment, newcomer: Adapter) -> Price | None:
    """The lowest price of any set of victims on any pod, by trying all sets; None if no set is enough."""
    prices = []
    for pod in fleet.pods:
        there = [adapter for adapter in fleet.adapters if before.get(adapter.key) == (pod.key,)]
        lower = [adapter for adapter in there if adapter.priority < newcomer.priority]
        prices += [
            _price(victims)
            for count in range(len(lower) + 1)
            for victims in combinations(lower, count)
            if not is_over(pod, [*(adapter for adapter in there if adapter not in victims), newcomer])
        ]
    return min(prices, default=None)


def taken(fleet: Snapshot, before: Assignment, newcomer: Adapter) -> Price:
    """The price that the plan pays for the newcomer."""
    priorities = {adapter.key: adapter for adapter in fleet.adapters}
    actions = plan(populated(fleet, before)).actions
    return _price(
        priorities[action.adapter or ""]
        for action in actions
        if isinstance(action, Unload) and action.cause is UnloadCause.PREEMPTED and action.on_behalf_of == newcomer.key
    )


def _price(victims: Iterable[Adapter]) -> Price:
    """Nobody is cheaper than anybody."""
    priorities = [adapter.priority for adapter in victims]
    return max(priorities, default=-1), len(priorities)


def _evicted(before: Assignment, after: Assignment) -> int:
    return sum(max(0, len(pods) - len(after.get(key, ()))) for key, pods in before.items())


def _least_evicted(fleet: Snapshot, before: Assignment, wave: tuple[Adapter, ...]) -> int:
    """By slots and bytes of the whole fleet: as if its pods were one."""
    held = [(adapter.bytes, len(before.get(adapter.key, ()))) for adapter in fleet.adapters]
    slots = sum(pod.host_slots for pod in fleet.pods) - sum(count for _, count in held)
    free = sum(pod.memory_bytes or 0 for pod in fleet.pods) - sum(size * count for size, count in held)
    by_size = sorted((size for size, count in held for _ in range(count)), reverse=True)
    short, victims = sum(adapter.bytes for adapter in wave) - free, 0
    while short > 0:
        short -= by_size[victims]
        victims += 1
    return max(victims, len(wave) - slots)
