"""The fleets that the benchmark generates."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from bench.placement.changes import TRACES
from bench.placement.churn import least_moves
from bench.placement.fleets import HOSTNAME, ZONE, Binding, Replicas, Shape, build
from lora_scheduler import ReplicaPolicy
from tests.scheduler.builders import a_pod, a_snapshot, an_adapter


def test_the_same_shape_gives_the_same_fleet() -> None:
    shape = Shape(50, 6, mixed=True, priorities=3, replicas=Replicas.FEW)
    assert build(shape) == build(shape)
    assert build(shape) != build(replace(shape, seed=2))


@pytest.mark.parametrize("mixed", [False, True], ids=["equal", "mixed"])
@pytest.mark.parametrize("use", [0.6, 0.98, 1.5])
@pytest.mark.parametrize("binding", list(Binding))
def test_what_binds_is_used_as_much_as_the_shape_says(binding: Binding, use: float, mixed: bool) -> None:
    fleet = build(Shape(200, 10, use=use, binding=binding, mixed=mixed))
    slots = sum(a.replicas for a in fleet.adapters) / sum(pod.host_slots for pod in fleet.pods)
    memory = sum(a.replicas * a.bytes for a in fleet.adapters) / sum(pod.memory_bytes or 0 for pod in fleet.pods)
    tight = {Binding.SLOTS: [slots], Binding.MEMORY: [memory], Binding.BOTH: [slots, memory]}[binding]
    assert tight == pytest.approx([use] * len(tight), rel=0.02)
    assert min(slots, memory) <= use * 1.02


def test_demand_adds_up_to_so_much_per_pod_and_each_replica_carries_at_most_half_of_it() -> None:
    fleet = build(Shape(200, 10, zipf=1.5))
    assert sum(a.demand or 0 for a in fleet.adapters) == pytest.approx(100, rel=1e-3)
    assert max((a.demand or 0) / a.replicas for a in fleet.adapters if a.replicas < 10) <= 5


def test_unknown_demand_stays_unknown_and_auto_is_left_to_the_library() -> None:
    assert {a.demand for a in build(Shape(50, 6, zipf=0.0)).adapters} == {None}
    auto = build(Shape(50, 6, replicas=Replicas.AUTO)).adapters
    assert {(a.replica_policy, a.replicas) for a in auto} == {(ReplicaPolicy.AUTO, 1)}


def test_every_zone_has_every_kind_of_pods_and_every_node_is_in_one_zone() -> None:
    pods = build(Shape(1000, 60, mixed=True)).pods
    assert {(pod.node_labels[ZONE], pod.max_rank) for pod in pods} == {(z, r) for z in "abc" for r in (32, 64, 128)}
    zones_of: dict[str, set[str]] = {}
    for pod in pods:
        zones_of.setdefault(pod.node_labels[HOSTNAME], set()).add(pod.node_labels[ZONE])
    assert {len(zones) for zones in zones_of.values()} == {1}


def test_an_adapter_that_is_too_large_for_every_pod_has_a_lower_rank() -> None:
    fleet = build(Shape(100, 10, zipf=0.8, use=1.5, binding=Binding.MEMORY))
    largest = max(pod.memory_bytes or 0 for pod in fleet.pods)
    assert largest / 2 < max(adapter.bytes for adapter in fleet.adapters) <= largest


def test_a_fleet_that_an_adapter_cannot_fit_into_is_refused_with_what_to_do() -> None:
    with pytest.raises(ValueError, match="more adapters per pod"):
        build(Shape(2, 40, use=1.5, replicas=Replicas.ONE))


@pytest.mark.parametrize("name", TRACES)
def test_every_trace_keeps_pods_and_adapters_distinct_and_changes_something_each_time(name: str) -> None:
    trace, use = TRACES[name]
    last = build(Shape(100, 9, use=use))
    for change in trace(last, random.Random(1), 4):
        assert change.fleet != last
        last = change.fleet
        assert len({pod.key for pod in last.pods}) == len(last.pods)
        assert len({adapter.key for adapter in last.adapters}) == len(last.adapters)


def test_what_was_on_a_pod_that_is_gone_has_to_be_loaded_again() -> None:
    fleet = a_snapshot(an_adapter("a", replicas=2, demand=2.0), an_adapter("b", demand=1.0), a_pod("p1"), a_pod("p2"))
    assert least_moves(fleet, {"a": ("p1", "gone"), "b": ("p2",)}) == (1, 0)


def test_a_pod_that_is_too_hot_has_to_shed_its_largest_replicas_at_least() -> None:
    adapters = [an_adapter(key, demand=demand) for key, demand in (("a", 4.0), ("b", 3.0), ("c", 2.0), ("d", 1.0))]
    fleet = a_snapshot(*adapters, a_pod("p1"), a_pod("p2"))
    assert least_moves(fleet, dict.fromkeys("abcd", ("p1",))) == (0, 2)
    assert least_moves(fleet, {"a": ("p1",), "b": ("p2",), "c": ("p2",), "d": ("p1",)}) == (0, 0)
