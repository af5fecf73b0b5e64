"""Whose replicas make room within a priority: second ones before first ones, the last one that serves at the end."""

from __future__ import annotations

from lora_scheduler import Adapter, Pod
from tests.scheduler.builders import (
    GIB,
    LOADING,
    a_pod,
    a_replica,
    a_snapshot,
    an_adapter,
    holding,
    plan_for,
    run,
    unloads,
    where,
)

HIGH = an_adapter("high", priority=1)


def one_slot_pods(**residents: Adapter) -> list[Pod]:
    return [holding(a_pod(key, slots=1), a_replica(adapter)) for key, adapter in residents.items()]


def test_a_second_replica_makes_room_on_another_pod_rather_than_a_first_one_on_the_least_loaded() -> None:
    twice, once = an_adapter("twice", replicas=2, demand=20.0), an_adapter("once", demand=1.0)
    made = plan_for(HIGH, twice, once, *one_slot_pods(p1=once, p2=twice, p3=twice))
    assert [name for name, _ in unloads(made)] == ["twice"]
    assert made.assignments["once"] == ("p1",) and len(made.assignments["twice"]) == 1


def test_two_second_replicas_make_room_rather_than_one_first_one() -> None:
    once = an_adapter("once", bytes=2 * GIB)
    twice = [an_adapter(f"twice{n}", replicas=2) for n in range(2)]
    pods = [
        holding(a_pod("p1", memory=4), a_replica(once), *map(a_replica, twice)),
        holding(a_pod("p2", slots=2, max_rank=8), *map(a_replica, twice)),
    ]
    made = plan_for(an_adapter("high", priority=1, bytes=2 * GIB, rank=16), once, *twice, *pods)
    assert unloads(made) == [("twice0", "p1"), ("twice1", "p1")]


def test_a_first_replica_of_a_lower_priority_makes_room_before_a_second_one_of_a_higher_priority() -> None:
    twice, once = an_adapter("twice", replicas=2, priority=1), an_adapter("once")
    high = an_adapter("high", priority=2)
    made = plan_for(high, twice, once, *one_slot_pods(p1=once, p2=twice, p3=twice))
    assert unloads(made) == [("once", "p1")]


def test_of_two_replicas_the_one_that_serves_stays_while_the_other_one_is_being_loaded() -> None:
    twice, once = an_adapter("twice", replicas=2, age_rank=5), an_adapter("once", replicas=2)
    pods = [
        holding(a_pod("p1", slots=2, max_rank=16), a_replica(twice), a_replica(once)),
        holding(a_pod("p2", slots=2, max_rank=8), a_replica(twice, state=LOADING), a_replica(once)),
    ]
    made = plan_for(an_adapter("high", priority=1, rank=16), twice, once, *pods)
    assert unloads(made) == [("once", "p1")]


def test_what_was_a_second_replica_is_a_first_one_once_the_other_has_made_room() -> None:
    twice, once = an_adapter("twice", replicas=2, demand=1.0), an_adapter("once", demand=9.0)
    high = an_adapter("high", priority=1, replicas=2)
    after, plans = run(a_snapshot(high, twice, once, *one_slot_pods(p1=twice, p2=twice, p3=once)))
    assert len(where(after, "high")) == 2 and len(plans) == 2
    high = an_adapter("high", priority=1, replicas=3)
    after, _ = run(a_snapshot(high, twice, once, *one_slot_pods(p1=twice, p2=twice, p3=once)))
    assert len(where(after, "high")) == 3


def test_who_lost_a_second_replica_looks_for_room_after_who_lost_the_only_one() -> None:
    twice, once = an_adapter("twice", replicas=2, demand=50.0), an_adapter("once", demand=1.0)
    highs = [an_adapter(f"high{n}", priority=1, rank=16) for n in range(2)]
    pods = [
        holding(a_pod("p1", slots=1), a_replica(twice)),
        holding(a_pod("p2", slots=1), a_replica(once)),
        holding(a_pod("p3", slots=1, max_rank=8), a_replica(twice)),
        a_pod("p4", slots=1, max_rank=8),
    ]
    made = plan_for(*highs, twice, once, *pods)
    assert made.assignments["once"] == ("p4",) and made.assignments["twice"] == ("p3",)
