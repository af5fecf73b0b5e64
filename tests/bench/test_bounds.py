"""The bounds, and the baseline that is a solver, against brute force on fleets of a few replicas."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, product

import pytest

pytest.importorskip("scipy", reason="only measuring needs scipy: make bench-placement installs it")

from bench.placement import bounds
from bench.placement.fleets import Shape, build
from bench.placement.mincostflow import MinCostFlow
from bench.placement.quality import Assignment, quality
from lora_scheduler import Snapshot
from tests.scheduler.builders import a_pod, a_snapshot, an_adapter


def assignments(fleet: Snapshot) -> Iterator[Assignment]:
    """All that keep the limits."""
    keys = [pod.key for pod in fleet.pods]
    ways = [
        [chosen for count in range(adapter.replicas + 1) for chosen in combinations(keys, count)]
        for adapter in fleet.adapters
    ]
    for chosen in product(*ways):
        assignment = {adapter.key: pods for adapter, pods in zip(fleet.adapters, chosen, strict=True)}
        if quality(fleet, assignment).over_limit == 0:
            yield assignment


FLEETS = {
    "room for all": a_snapshot(
        an_adapter("a", demand=5.0, replicas=2), an_adapter("b", demand=3.0), an_adapter("c", demand=2.0),
        an_adapter("d", demand=1.0), a_pod("p1", memory=4), a_pod("p2", memory=4),
    ),
    "a rank that only one pod takes": a_snapshot(
        an_adapter("a", demand=5.0, rank=16), an_adapter("b", demand=4.0, rank=16), an_adapter("c", demand=1.0),
        a_pod("p1", memory=3), a_pod("p2", memory=3, max_rank=8),
    ),
    "too little memory": a_snapshot(
        an_adapter("a", demand=5.0, bytes=2 << 30), an_adapter("b", demand=3.0, bytes=2 << 30),
        an_adapter("c", demand=2.0), an_adapter("d", demand=2.0, priority=1), a_pod("p1", memory=3, slots=2),
        a_pod("p2", memory=1),
    ),
}  # fmt: skip
each = pytest.mark.parametrize("fleet", FLEETS.values(), ids=FLEETS)


@each
def test_nothing_serves_more_than_the_linear_bound(fleet: Snapshot) -> None:
    best = max(sum(quality(fleet, one).served.values()) for one in assignments(fleet))
    bound = bounds.most_demand(fleet)
    assert best <= bound + 1e-9 <= best * 1.5


@each
def test_nothing_leaves_fewer_unplaced_than_the_bounds(fleet: Snapshot) -> None:
    fewest = min(quality(fleet, one).missing for one in assignments(fleet))
    assert bounds.fewest_missing(fleet) <= fewest
    assert bounds.whole_fewest_missing(fleet, 5.0) == (fewest, fewest)


@each
def test_nothing_is_more_even_than_the_bounds(fleet: Snapshot) -> None:
    whole = [quality(fleet, one) for one in assignments(fleet)]
    largest = [one.largest_load for one in whole if one.missing == 0]
    found, proven = bounds.whole_largest_load(fleet, 5.0)
    if largest:
        assert bounds.least_largest_load(fleet) <= min(largest) + 1e-6
        assert (found, proven) == (pytest.approx(min(largest)), pytest.approx(min(largest)))
    else:
        assert found is None
        assert bounds.least_largest_load(fleet) == float("inf")


def test_the_bound_knows_that_ranks_force_load_together() -> None:
    assert bounds.least_largest_load(FLEETS["a rank that only one pod takes"]) == pytest.approx(9)


def test_the_bound_knows_that_a_replica_is_on_one_pod() -> None:
    fleet = a_snapshot(an_adapter("a", demand=9.0), an_adapter("b", demand=1.0), a_pod("p1"), a_pod("p2"))
    assert bounds.least_largest_load(fleet) == 9


def test_the_strict_bound_serves_higher_priorities_whatever_it_costs() -> None:
    strict = bounds.most_demand_strictly(FLEETS["too little memory"])
    assert strict[1] == pytest.approx(2.0)
    assert strict[0] <= bounds.most_demand(FLEETS["too little memory"]) - 2.0 + 1e-4


def test_the_strict_bound_serves_first_replicas_before_hotter_second_ones() -> None:
    hot, cold = an_adapter("hot", demand=30.0, replicas=3), an_adapter("cold", demand=1.0)
    fleet = a_snapshot(hot, cold, *(a_pod(f"p{number}", slots=1) for number in range(3)))
    assert bounds.most_demand_strictly(fleet)[0] == pytest.approx(21.0, abs=1e-3)
    assert bounds.most_demand(fleet) == pytest.approx(30.0)
    assert bounds.most_demand_strictly(a_snapshot(hot)) == {0: 0.0}


@pytest.mark.parametrize("shape", [Shape(60, 6, mixed=True), Shape(60, 6, use=1.4, priorities=3)], ids=str)
def test_the_flow_keeps_the_limits_that_a_flow_does_not_know(shape: Shape) -> None:
    fleet = build(shape)
    placed = MinCostFlow().place(fleet, {})
    found = quality(fleet, placed)
    assert found.over_limit == 0
    assert any(found.served.values())
    assert all(len(set(pods)) == len(pods) for pods in placed.values())


def test_the_flow_moves_little_when_nothing_has_changed() -> None:
    fleet = build(Shape(60, 6))
    placed = MinCostFlow().place(fleet, {})
    again = MinCostFlow().place(fleet, placed)
    assert sum(placed[key] != again[key] for key in placed) <= 6
