"""A large cold replica leaves a cool pod first, so that a hot one finds the memory there that it lacks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from lora_scheduler import Adapter, Obstacle, Planner, Pod, ReplicaPolicy, Selector, Snapshot, plan, simulate
from tests.scheduler.builders import GIB, LOADING, a_pod, a_replica, a_snapshot, an_adapter, holding, loads, where

HOT = [an_adapter(f"hot{n}", bytes=2 * GIB, demand=6.0) for n in range(2)]
COLD = an_adapter("cold", bytes=3 * GIB, demand=0.1)
WARM = an_adapter("warm", bytes=GIB, demand=6.5)


def a_fleet(cold: Adapter = COLD, warm: Adapter = WARM, hot: list[Adapter] = HOT, **cool: Any) -> Snapshot:
    """p1 has too much load; p2 has hardly any, and no memory for what p1 would give; p3 has memory and enough load."""
    pods: list[Pod] = [
        holding(a_pod("p1", memory=4, labels={"tier": "gold"}), *map(a_replica, hot)),
        holding(a_pod("p2", memory=4, **cool), a_replica(cold)),
        holding(a_pod("p3", memory=4), a_replica(warm)),
    ]
    return a_snapshot(*hot, cold, warm, *pods)


def rested(snapshot: Snapshot, planner: Planner) -> Snapshot:
    for _ in range(12):
        made = planner.plan(snapshot)
        if not made.actions:
            return snapshot
        snapshot = simulate(snapshot, made, settle=True)
    raise AssertionError("not at rest")


def test_the_cold_one_goes_and_then_the_hot_one_comes() -> None:
    planner = Planner(remember=True)
    made = planner.plan(a_fleet())
    assert loads(made) == [("cold", "p3")] and made.places.moves == {"cold": ("p2", "hot0")}
    after = rested(a_fleet(), Planner(remember=True))
    assert where(after, "cold") == ["p3"]
    assert sorted(len([r for r in pod.residents if r.name.startswith("hot")]) for pod in after.pods) == [0, 1, 1]


def test_one_chain_is_enough_while_it_is_under_way() -> None:
    planner, snapshot = Planner(remember=True), a_fleet()
    under_way = simulate(snapshot, planner.plan(snapshot))
    pods = {pod.key: pod for pod in under_way.pods}
    here, arriving = pods["p3"].residents[0], replace(pods["p3"].residents[1], state=LOADING)
    if here.name == "cold":
        here, arriving = pods["p3"].residents[1], replace(here, state=LOADING)
    pods["p3"] = replace(pods["p3"], residents=(here, arriving))
    again = planner.plan(replace(under_way, pods=tuple(pods.values())))
    assert not again.actions and again.places.moves == {"cold": ("p2", "hot0")}


def test_a_slot_is_made_as_memory_is() -> None:
    hot = [replace(one, bytes=GIB) for one in HOT]
    after = rested(a_fleet(hot=hot, slots=1), Planner(remember=True))
    assert where(after, "cold") == ["p3"] and len(after.pods[1].residents) == 1


def test_the_cold_one_may_come_to_the_pod_that_the_hot_one_leaves() -> None:
    """Neither pod has room for both at a time, so that they cannot change places in one step."""
    hot = [an_adapter("hot0", bytes=2 * GIB, demand=6.0), an_adapter("hot1", bytes=3 * GIB, demand=6.0)]
    cold = an_adapter("cold", bytes=3 * GIB, demand=0.1)
    busy = an_adapter("busy", bytes=4 * GIB, demand=6.0)
    fleet = a_snapshot(
        *hot, cold, busy,
        holding(a_pod("p1", memory=8), *map(a_replica, hot)),
        holding(a_pod("p2", memory=4), a_replica(cold)),
        holding(a_pod("p3", memory=4), a_replica(busy)),
    )  # fmt: skip
    planner = Planner(remember=True)
    made = planner.plan(fleet)
    assert loads(made) == [("cold", "p1")] and made.places.moves["cold"][0] == "p2"
    after = rested(fleet, Planner(remember=True))
    assert where(after, "cold") == ["p1"] and sorted(map(len, (pod.residents for pod in after.pods))) == [1, 1, 2]


def test_a_replica_that_follows_demand_moves_and_does_not_grow() -> None:
    """Nothing but what the planner remembers tells the pod that it leaves from the one that it goes to."""
    auto = an_adapter("auto", demand=2.0, replicas=1, replica_policy=ReplicaPolicy.AUTO)
    large = an_adapter("large", bytes=6 * GIB, demand=4.0)
    small = an_adapter("small", demand=2.0)
    fleet = a_snapshot(
        auto, large, small,
        holding(a_pod("p1", memory=8), a_replica(auto), a_replica(large)),
        holding(a_pod("p2", memory=4), a_replica(small)),
    )  # fmt: skip
    assert not plan(fleet).actions
    made = Planner(remember=True).plan(fleet)
    assert loads(made) == [("auto", "p2")] and made.places.moves == {"auto": ("p1", "")}
    assert where(rested(fleet, Planner(remember=True)), "auto") == ["p2"]


def test_where_nothing_is_remembered_the_hot_one_stays() -> None:
    made = plan(a_fleet())
    assert not made.actions
    assert [overload.obstacle for overload in made.overloads] == [Obstacle.NO_ROOM_ELSEWHERE]


@pytest.mark.parametrize(
    "fleet",
    [
        a_fleet(cold=replace(COLD, demand=None)),  # who knows whether it is cold
        a_fleet(cold=replace(COLD, demand=2.0)),  # not cold enough
        a_fleet(cold=replace(COLD, bytes=3 * GIB + 1)),  # fits nowhere else
        a_fleet(hot=[replace(one, selector=Selector((("tier", "gold"),))) for one in HOT]),  # may not be there
        a_fleet(warm=replace(WARM, demand=0.1)),  # the cool pod with room takes it by itself
    ],
    ids=["unknown", "warm", "large", "not allowed", "direct"],
)
def test_nothing_cold_moves_in_vain(fleet: Snapshot) -> None:
    made = Planner(remember=True).plan(fleet)
    assert "cold" not in {key for key, _ in loads(made)}
