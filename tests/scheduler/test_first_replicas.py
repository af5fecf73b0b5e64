"""Where room is scarce: first replicas before second ones, and nothing that blocks a pod for ever."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lora_scheduler import Planner, Reason, ReplicaPolicy, UnloadCause, plan
from tests.scheduler.builders import (
    GIB,
    a_pod,
    a_replica,
    a_snapshot,
    an_adapter,
    holding,
    plan_for,
    reason_on,
    run,
    unload_causes,
    unloads,
    where,
)


@pytest.mark.parametrize("demand", [None, 30.0])
def test_first_replicas_come_before_second_ones_where_there_is_not_room_for_all(demand: float | None) -> None:
    many = an_adapter("a", replicas=3, demand=demand)
    one = an_adapter("b", demand=demand and 1.0, age_rank=1)
    made = plan_for(many, one, *(a_pod(f"p{n}", slots=1) for n in range(3)))
    assert [len(pods) for pods in made.assignments.values()] == [2, 1]
    assert made.missing == {"a": 1}


def test_all_replicas_of_a_higher_priority_come_before_the_first_of_a_lower_one() -> None:
    many = an_adapter("a", replicas=3, priority=1)
    others = [an_adapter("b", priority=1, age_rank=1), an_adapter("c"), an_adapter("d", age_rank=1)]
    made = plan_for(many, *others, *(a_pod(f"p{n}", slots=1) for n in range(5)))
    assert {key: len(pods) for key, pods in made.assignments.items()} == {"a": 3, "b": 1, "c": 1, "d": 0}


def test_second_replicas_of_a_higher_priority_preempt_too_and_the_preempted_find_room() -> None:
    low = an_adapter("low", bytes=GIB)
    lower = an_adapter("lower", priority=-1)
    high = an_adapter("high", replicas=2, priority=1)
    pods = [
        holding(a_pod("p1", slots=1), a_replica(low)),
        holding(a_pod("p2", slots=1), a_replica(lower)),
        a_pod("p3", slots=1, max_rank=4),
    ]
    made = plan_for(high, low, lower, *pods)
    assert made.assignments == {"high": ("p1", "p2"), "low": (), "lower": ()}
    _, plans = run(a_snapshot(high, low, lower, *pods))
    assert unload_causes(plans[0]) == {UnloadCause.PREEMPTED}


def test_a_resident_that_is_larger_than_declared_does_not_block_its_pod_for_ever() -> None:
    adapter = an_adapter("a", bytes=GIB)
    pod = holding(a_pod(memory=2), a_replica(adapter, bytes=3 * GIB))
    made = plan_for(adapter, pod)
    assert unloads(made) == [("a", "p1")] and made.missing == {"a": 1}
    assert reason_on(made, "p1") is Reason.WAITING_FOR_ROOM
    after, _ = run(a_snapshot(adapter, pod))
    assert where(after) == ["p1"]


def test_a_resident_that_is_larger_than_declared_goes_to_another_pod() -> None:
    adapter = an_adapter("a", bytes=GIB)
    made = plan_for(adapter, holding(a_pod(memory=2), a_replica(adapter, bytes=3 * GIB)), a_pod("p2", memory=2))
    assert made.assignments == {"a": ("p2",)} and unloads(made) == [("a", "p1")]


def test_one_that_is_larger_than_declared_and_fits_stays() -> None:
    adapter = an_adapter("a", bytes=GIB)
    made = plan_for(adapter, holding(a_pod(memory=4), a_replica(adapter, bytes=3 * GIB)))
    assert not made.actions and made.assignments == {"a": ("p1",)}
    assert Planner().plan(a_snapshot(adapter, a_pod())) == plan(a_snapshot(adapter, a_pod()))


def test_a_replica_that_is_no_longer_spare_once_another_has_gone_stays() -> None:
    hot = an_adapter("hot", replica_policy=ReplicaPolicy.AUTO, demand=9.0)
    everywhere = an_adapter("everywhere", replica_policy=ReplicaPolicy.ALL_PODS)
    made = plan_for(hot, everywhere, *(holding(a_pod(f"p{n}", slots=1), a_replica(hot)) for n in range(2)))
    assert [len(pods) for pods in made.assignments.values()] == [1, 1]
    assert unload_causes(made) == {UnloadCause.PREEMPTED} and len(unloads(made)) == 1


def test_packing_finds_places_for_first_replicas_before_second_ones() -> None:
    wanted = [(3, 1, 20), (2, 1, 5), (1, 1, 1), (2, 3, 2), (2, 2, 20), (2, 1, 2), (4, 1, 20)]  # GiB, replicas, demand
    adapters = [
        an_adapter(f"a{n}", bytes=size * GIB, replicas=replicas, demand=float(demand), age_rank=n)
        for n, (size, replicas, demand) in enumerate(wanted)
    ]
    made = plan_for(
        *adapters, *(a_pod(f"p{n}", slots=s, memory=m) for n, (s, m) in enumerate(((3, 7), (2, 6), (2, 5))))
    )
    assert all(made.assignments[adapter.key] for adapter in adapters)


def test_a_first_replica_takes_over_from_a_second_one_where_room_only_seemed_enough() -> None:
    # 20 of 27 GiB are wanted, and no pod has room for two
    first, twice, last = (an_adapter(key, bytes=4 * GIB, demand=20.0) for key in ("first", "thrice", "z"))
    adapters = first, replace(twice, replicas=3), replace(last, demand=5.0)
    made = plan_for(*adapters, *(a_pod(f"p{n}", memory=memory) for n, memory in enumerate((7, 6, 7, 7))))
    assert {key: len(pods) for key, pods in made.assignments.items()} == {"first": 1, "thrice": 2, "z": 1}
    assert made.missing == {"thrice": 1} and len(made.actions) == 4
