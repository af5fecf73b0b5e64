"""Who gets the room that is too little for all, next to what brute force finds."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lora_scheduler import Adapter, Pod
from tests.scheduler.builders import (
    GIB,
    a_pod,
    a_replica,
    a_snapshot,
    an_adapter,
    holding,
    loads,
    plan_for,
    run,
    unloads,
)
from tests.scheduler.test_balance_cold import UNHURRIED, served

Sizes = list[tuple[int, int]]


def of_sizes(sizes: Sequence[tuple[int, int]], **fields: object) -> list[Adapter]:
    """Adapters of so many GiB and requests per second."""
    return [an_adapter(f"a{i}", bytes=n * GIB, demand=float(d), **fields) for i, (n, d) in enumerate(sizes)]


def pods_of(limits: Sequence[tuple[int, int]]) -> list[Pod]:
    return [a_pod(f"p{i}", slots=slots, memory=memory) for i, (slots, memory) in enumerate(limits)]


def best_demand(adapters: list[Adapter], pods: list[Pod]) -> float:
    """By brute force: every way of placing one replica of each, or none."""
    best = 0.0
    for choice in product((None, *range(len(pods))), repeat=len(adapters)):
        free = [(pod.host_slots, pod.memory_bytes or 0) for pod in pods]
        worth = 0.0
        for adapter, where in zip(adapters, choice, strict=True):
            if where is not None:
                free[where] = free[where][0] - 1, free[where][1] - adapter.bytes
                worth += adapter.demand or 0
        if all(slots >= 0 and size >= 0 for slots, size in free):
            best = max(best, worth)
    return best


sizes_of_adapters = st.lists(st.tuples(st.integers(1, 4), st.integers(1, 9)), min_size=1, max_size=6)
limits_of_pods = st.tuples(st.integers(1, 3), st.integers(2, 6))


@UNHURRIED
@given(sizes=sizes_of_adapters, limits=limits_of_pods)
def test_one_pod_serves_the_most_demand_there_is(sizes: Sizes, limits: tuple[int, int]) -> None:
    adapters, fleet = of_sizes(sizes), pods_of([limits])
    assert served(plan_for(*adapters, *fleet), adapters) == best_demand(adapters, fleet)


@UNHURRIED
@given(sizes=sizes_of_adapters, limits=st.lists(limits_of_pods, min_size=2, max_size=2))
def test_two_pods_serve_at_least_half_of_the_most_demand_there_is(sizes: Sizes, limits: Sizes) -> None:
    adapters, fleet = of_sizes(sizes), pods_of(limits)
    assert served(plan_for(*adapters, *fleet), adapters) >= 0.5 * best_demand(adapters, fleet)


def test_small_fleets_mostly_serve_the_most_demand_there_is() -> None:
    """Each pod is chosen for by itself: a handful of adapters for two pods of different sizes can be divided better."""
    dice = random.Random(11)
    ratios: list[float] = []
    for _ in range(200):
        adapters = of_sizes([(dice.randint(1, 4), dice.randint(1, 9)) for _ in range(dice.randint(1, 6))])
        fleet = pods_of([(dice.randint(1, 3), dice.randint(2, 6)) for _ in range(2)])
        best = best_demand(adapters, fleet)
        ratios.append(served(plan_for(*adapters, *fleet), adapters) / best if best else 1.0)
    assert sum(ratios) / len(ratios) > 0.985
    assert sum(ratio == 1.0 for ratio in ratios) > 0.9 * len(ratios)


def test_a_large_adapter_takes_the_place_of_a_small_one_that_is_worth_less() -> None:
    small, large = of_sizes([(1, 1), (3, 3)])
    assert plan_for(small, large, a_pod(slots=1, memory=3)).assignments == {"a0": (), "a1": ("p1",)}


def test_what_has_begun_to_load_stays_whatever_would_be_worth_more() -> None:
    small, large = of_sizes([(1, 1), (3, 3)])
    made = plan_for(small, large, holding(a_pod(slots=1, memory=3), a_replica(small)))
    assert not made.actions and made.missing == {"a1": 1}


def test_a_higher_priority_keeps_its_place_whatever_others_are_worth() -> None:
    first = an_adapter("first", bytes=GIB, demand=0.1, priority=1)
    made = plan_for(first, *of_sizes([(3, 9), (2, 5)]), a_pod(slots=2, memory=3))
    assert made.assignments == {"a0": (), "a1": ("p1",), "first": ("p1",)}


def test_where_demand_is_unknown_the_oldest_keeps_its_place() -> None:
    old, young = an_adapter("old", bytes=GIB), an_adapter("young", bytes=3 * GIB, demand=9.0, age_rank=1)
    made = plan_for(old, young, a_pod(slots=1, memory=3))
    assert made.assignments["old"] == () or made.assignments["young"] == ()
    both = an_adapter("a", bytes=GIB), an_adapter("b", bytes=3 * GIB, age_rank=1)
    assert plan_for(*both, a_pod(slots=1, memory=3)).assignments == {"a": ("p1",), "b": ()}


def test_of_two_adapters_of_one_name_a_pod_gets_one() -> None:
    twins = [an_adapter(key, name="same", bytes=GIB, demand=4.0) for key in ("t1", "t2")]
    made = plan_for(an_adapter("dense", bytes=GIB, demand=4.1), *twins, a_pod(slots=2, memory=2))
    assert len(loads(made)) == 2


@pytest.mark.parametrize("seed", range(3))
def test_who_was_chosen_stays_and_nothing_goes_to_and_fro(seed: int) -> None:
    dice = random.Random(seed)
    adapters = of_sizes([(dice.randint(1, 6), dice.randint(1, 20)) for _ in range(40)], rank=8)
    pods = [a_pod(f"p{i}", slots=4, memory=9) for i in range(5)]
    _, plans = run(a_snapshot(*adapters, *pods))
    assert len(plans) == 1 and not unloads(plans[0])


def test_two_adapters_of_one_name_never_get_the_same_pod_however_full_it_is() -> None:
    for seed in range(150):
        dice = random.Random(seed)
        adapters = [
            an_adapter(
                f"a{n}", name=f"name{n // 2}", bytes=dice.randint(1, 6) * GIB, demand=dice.choice((None, 1.0, 2.0))
            )
            for n in range(dice.randint(4, 12))
        ]
        sizes = [(dice.randint(2, 5), dice.randint(5, 12)) for _ in range(dice.randint(2, 4))]
        made = plan_for(*adapters, *pods_of(sizes))
        for place in range(len(sizes)):
            names = [adapter.name for adapter in adapters if f"p{place}" in made.assignments[adapter.key]]
            assert len(names) == len(set(names))
