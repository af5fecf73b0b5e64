"""The baselines: each keeps the limits, and each does what its name says."""

from __future__ import annotations

from dataclasses import replace

import pytest

from bench.placement.baselines import BASELINES, Baseline
from bench.placement.fleets import Shape, build
from bench.placement.quality import quality
from tests.scheduler.builders import a_pod, a_snapshot, an_adapter

BY_NAME = {method.name: method for method in BASELINES}
SHAPES = [Shape(60, 6), Shape(60, 6, use=0.98, mixed=True), Shape(60, 6, use=1.4, mixed=True, priorities=3)]
each = pytest.mark.parametrize("method", BASELINES, ids=lambda method: method.name)


@each
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_never_breaks_a_limit_nor_puts_two_replicas_on_one_pod(method: Baseline, shape: Shape) -> None:
    fleet = build(shape)
    placed = method.place(fleet, {})
    assert quality(fleet, placed).over_limit == 0
    assert all(len(set(pods)) == len(pods) for pods in placed.values())
    assert any(placed.values())


@each
def test_moves_nothing_when_nothing_has_changed(method: Baseline) -> None:
    fleet = build(SHAPES[0])
    placed = method.place(fleet, {})
    assert method.place(fleet, placed) == placed


@each
def test_serves_higher_priorities_first(method: Baseline) -> None:
    adapters = [an_adapter(f"a{number}", priority=number) for number in range(4)]
    assert method.place(a_snapshot(*adapters, a_pod(slots=1)), {}) == {"a3": ("p1",), "a2": (), "a1": (), "a0": ()}


@pytest.mark.parametrize("method", [m for m in BASELINES if m.sticky], ids=lambda method: method.name)
def test_those_that_are_sticky_keep_what_is_left_in_place(method: Baseline) -> None:
    fleet = build(SHAPES[0])
    placed = method.place(fleet, {})
    left = replace(fleet, pods=fleet.pods[1:])
    after = method.place(left, placed)
    gone = fleet.pods[0].key
    assert all(set(pods) - {gone} <= set(after[key]) for key, pods in placed.items())


def test_places_only_on_pods_that_may_take_it() -> None:
    adapter = an_adapter(rank=16)
    pods = [
        a_pod("p1", max_rank=8), a_pod("p2", base_model="qwen"), a_pod("p3", ready=False), a_pod("p4", draining=True),
        a_pod("p5"),
    ]  # fmt: skip
    assert BY_NAME["first-fit decreasing"].place(a_snapshot(adapter, *pods), {}) == {"a": ("p5",)}


def test_first_fit_fills_pods_in_order_with_the_largest_first() -> None:
    sizes = {"a": 1, "b": 3, "c": 2}
    adapters = [an_adapter(key, bytes=size << 30) for key, size in sizes.items()]
    fleet = a_snapshot(*adapters, a_pod("p1", memory=5), a_pod("p2", memory=5))
    assert BY_NAME["first-fit decreasing"].place(fleet, {}) == {"b": ("p1",), "c": ("p1",), "a": ("p2",)}


def test_best_fit_takes_the_tightest_pod() -> None:
    fleet = a_snapshot(an_adapter(), a_pod("p1", memory=3), a_pod("p2", memory=2))
    assert BY_NAME["best-fit"].place(fleet, {}) == {"a": ("p2",)}


def test_least_adapters_counts_and_least_loaded_weighs() -> None:
    adapters = [an_adapter("a", demand=9.0), an_adapter("b", demand=1.0), an_adapter("c", demand=1.0)]
    before = {"a": ("p1",), "b": ("p2",)}
    fleet = a_snapshot(*adapters, a_pod("p1", slots=2), a_pod("p2"))
    assert BY_NAME["least adapters"].place(fleet, before)["c"] == ("p1",)
    assert BY_NAME["least loaded"].place(fleet, before)["c"] == ("p2",)


def test_rendezvous_moves_only_what_a_lost_pod_held_where_room_is_plenty() -> None:
    adapters = [an_adapter(f"a{number}") for number in range(60)]
    pods = [a_pod(f"p{number}", slots=60, memory=60) for number in range(5)]
    method = BY_NAME["rendezvous"]
    placed = method.place(a_snapshot(*adapters, *pods), {})
    after = method.place(a_snapshot(*adapters, *pods[1:]), placed)
    assert {key for key in placed if placed[key] != after[key]} == {k for k, on in placed.items() if on == ("p0",)}
    assert len(set(after.values())) == 4


def test_bounded_load_rendezvous_keeps_to_its_bound() -> None:
    adapters = [an_adapter(f"a{number}", demand=1.0) for number in range(60)]
    pods = [a_pod(f"p{number}", slots=60, memory=60) for number in range(5)]
    fleet = a_snapshot(*adapters, *pods)
    assert quality(fleet, BY_NAME["rendezvous"].place(fleet, {})).imbalance > 1.25
    assert quality(fleet, BY_NAME["bounded-load rendezvous"].place(fleet, {})).imbalance <= 1.25
