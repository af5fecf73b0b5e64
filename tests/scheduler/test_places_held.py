"""Places that a plan has given and that the next ones hold on to: in updates of full fleets, and while loads wait."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from lora_scheduler import (
    Adapter,
    Load,
    LoadCause,
    Places,
    Plan,
    Planner,
    Pod,
    Policy,
    Reason,
    ReplicaPolicy,
    ResidentState,
    Selector,
    Snapshot,
    Unload,
    UnloadCause,
    plan,
)
from tests.scheduler.builders import GIB, a_foreigner, a_pod, a_replica, a_snapshot, an_adapter, holding, loads, where
from tests.scheduler.world import World

LOADING = ResidentState.LOADING


class Fleet:
    """A fleet and the planner that remembers what it has decided for it."""

    def __init__(self, *objects: Adapter | Pod, policy: Policy | None = None) -> None:
        self.world = World()
        self.world.adapters = {o.key: o for o in objects if isinstance(o, Adapter)}
        self.world.pods = {o.key: o for o in objects if isinstance(o, Pod)}
        self.planner = Planner(policy or Policy(), remember=True)

    def plan(self) -> Plan:
        return self.planner.plan(self.world.snapshot)

    def come_to_rest(self, *, watched: str = "", rounds: int = 200) -> int:
        """All that is planned happens, one after the other; the least number of serving replicas of the watched one."""
        least = self.world.serving(watched)
        for _ in range(rounds):
            made = self.plan()
            if not made.actions:
                return least
            self.world.begin_all(made)
            for flight in self.world.in_flight():
                self.plan()
                self.world.end(*flight)
                least = min(least, self.world.serving(watched))
        raise AssertionError(f"still acting after {rounds} rounds: {made.actions}")

    def update(self, key: str, version: str = "v2") -> None:
        self.world.adapters[key] = replace(self.world.adapters[key], version=version)

    def where(self, key: str) -> list[str]:
        return where(self.world.snapshot, key)


def a_full_pod_and_one_who_waits() -> Fleet:
    fleet = Fleet(
        an_adapter("a", demand=1.0), an_adapter("b", demand=2.0), holding(a_pod("p1", slots=1), a_replica("a"))
    )
    fleet.come_to_rest()
    return fleet


def test_an_update_keeps_the_gap_that_its_old_version_leaves() -> None:
    fleet = a_full_pod_and_one_who_waits()
    fleet.update("a")
    fleet.come_to_rest()
    assert fleet.where("a") == ["p1"] and fleet.where("b") == []


def test_a_gap_is_free_for_others_once_the_new_version_has_failed_there() -> None:
    fleet = a_full_pod_and_one_who_waits()
    fleet.update("a")
    fleet.world.begin_all(fleet.plan())
    fleet.world.end_all()
    made = fleet.plan()
    assert loads(made) == [("a", "p1")]
    fleet.world.begin_all(made)
    for flight in fleet.world.in_flight():
        fleet.world.fail(*flight)
    assert loads(fleet.plan()) == [("b", "p1")]


def test_a_gap_goes_to_a_higher_priority_that_lacks_room() -> None:
    fleet = a_full_pod_and_one_who_waits()
    fleet.update("a")
    fleet.world.begin_all(fleet.plan())
    fleet.world.end_all()
    fleet.world.adapters["b"] = an_adapter("b", priority=1)
    assert loads(fleet.plan()) == [("b", "p1")]


def test_an_update_takes_no_more_replicas_away_than_may_be_unavailable_though_others_wait() -> None:
    fleet = Fleet(
        an_adapter("a", replicas=2, demand=1.0),
        an_adapter("b", demand=2.0),
        *(holding(a_pod(f"p{n}", slots=1), a_replica("a")) for n in range(2)),
    )
    fleet.come_to_rest()
    fleet.update("a")
    assert fleet.come_to_rest(watched="a") == 1
    assert fleet.where("a") == ["p0", "p1"]


def test_updates_at_the_same_time_take_nothing_from_each_other() -> None:
    adapters = [an_adapter(key, demand=float(n)) for n, key in enumerate("abcdefgh")]
    pods = [
        holding(a_pod(f"p{n}", slots=2), a_replica(adapters[2 * n]), a_replica(adapters[2 * n + 1])) for n in range(4)
    ]
    fleet = Fleet(*adapters, *pods, an_adapter("waits", demand=99.0), an_adapter("too", demand=0.5))
    fleet.come_to_rest()
    for adapter in adapters:
        fleet.update(adapter.key)
    fleet.come_to_rest()
    assert [len(fleet.where(adapter.key)) for adapter in adapters] == [1] * 8


@pytest.mark.parametrize("seed", range(2))
def test_no_update_in_an_over_subscribed_fleet_costs_a_replica_for_good(seed: int) -> None:
    dice = random.Random(seed)
    demands = [1.0 / (place + 1) for place in range(40)]
    adapters = [an_adapter(f"a{n:02}", demand=demand, bytes=GIB // 4) for n, demand in enumerate(demands)]
    fleet = Fleet(*adapters, *(a_pod(f"p{n}", slots=9, node=f"n{n}") for n in range(4)))
    fleet.come_to_rest()
    dice.shuffle(demands)
    for adapter, demand in zip(adapters, demands, strict=True):
        fleet.world.adapters[adapter.key] = replace(adapter, demand=demand)
    fleet.come_to_rest()
    for adapter in adapters:
        before = len(fleet.where(adapter.key))
        fleet.update(adapter.key)
        fleet.come_to_rest()
        assert len(fleet.where(adapter.key)) == before


def test_what_waits_for_its_engine_stays_in_every_plan_and_where_it_was_planned() -> None:
    adapters = [an_adapter(f"a{n}", demand=float(n + 1)) for n in range(9)]
    everywhere = an_adapter("everywhere", replica_policy=ReplicaPolicy.ALL_PODS, priority=1)
    fleet = Fleet(*adapters, everywhere, *(a_pod(f"p{n}", slots=9) for n in range(3)))
    first = fleet.plan()
    left = list(first.actions)
    assert [action.adapter for action in left[:3]] == ["everywhere"] * 3
    while left:
        fleet.world.begin(left.pop(0))
        assert list(fleet.plan().actions) == left
        for flight in fleet.world.in_flight():
            fleet.world.end(*flight)
            assert list(fleet.plan().actions) == left
    assert fleet.plan().assignments == first.assignments


def test_a_newcomer_of_higher_priority_comes_before_what_waits_for_its_engine() -> None:
    low = [an_adapter(f"low{n}") for n in range(4)]
    fleet = Fleet(*low, a_pod(slots=4))
    fleet.plan()
    fleet.plan()
    fleet.world.adapters["high"] = an_adapter("high", priority=1)
    made = fleet.plan()
    assert next(action.adapter for action in made.actions) == "high"
    assert len(made.actions) == 4 and sum(made.missing.values()) == 1
    fleet.world.adapters["higher"] = an_adapter("higher", priority=2)
    made = fleet.plan()
    assert [action.adapter for action in made.actions][:2] == ["higher", "high"]
    assert len(made.actions) == 4 and sum(made.missing.values()) == 2


def test_what_has_not_begun_goes_to_pods_that_come_later_too() -> None:
    fleet = Fleet(*(an_adapter(f"a{n}") for n in range(8)), a_pod("p1", slots=8))
    assert len(fleet.plan().assignments["a0"]) == 1
    fleet.plan()
    fleet.world.begin(fleet.plan().actions[0])
    fleet.world.pods["p2"] = a_pod("p2", slots=8)
    made = fleet.plan()
    assert sorted(pods[0] for pods in made.assignments.values()) == ["p1"] * 4 + ["p2"] * 4


def test_a_gap_is_kept_when_a_pod_comes_back_that_has_no_room() -> None:
    fleet = a_full_pod_and_one_who_waits()
    fleet.update("a")
    fleet.world.begin_all(fleet.plan())
    fleet.world.end_all()
    fleet.world.pods["p2"] = holding(a_pod("p2", slots=1), a_foreigner())
    assert loads(fleet.plan()) == [("a", "p1")]


def test_a_place_is_given_up_where_the_replica_may_not_be_any_more() -> None:
    changes = (
        {"excluded": {"a": (Reason.LOAD_FAILED, "no")}},
        {"max_rank": 4},
        {"labels": {}},
        {"ready": False},
        {"residents": (a_foreigner("a"),)},
        {"residents": (a_foreigner("x"), a_foreigner("y"))},
    )
    for change in changes:
        adapter = an_adapter("a", selector=Selector((("tier", "gold"),)))
        fleet = Fleet(adapter, a_pod("p1", slots=2, labels={"tier": "gold"}))
        assert loads(fleet.plan()) == [("a", "p1")]
        fleet.world.pods["p2"] = a_pod("p2", slots=2)  # no more of them, so that the place stays
        assert loads(fleet.plan()) == [("a", "p1")]
        fleet.world.pods["p1"] = replace(fleet.world.pods["p1"], **change)
        assert loads(fleet.plan()) == []
        del fleet.world.pods["p1"]
        assert fleet.plan().assignments == {"a": ()}


def test_a_plan_holds_on_to_the_places_of_its_snapshot_in_the_order_of_service() -> None:
    small = [an_adapter(key, bytes=GIB) for key in "abc"]
    snapshot = a_snapshot(*small, a_pod("p1", slots=3), a_pod("p2", slots=3))
    places = Places(dict.fromkeys("abcx", ("p1",)) | {"b": ("p1", "gone")}, frozenset({"p1", "p2"}))
    assert set(plan(replace(snapshot, places=places)).assignments.values()) == {("p1",)}
    crowded = replace(snapshot, pods=(a_pod("p1", slots=2), a_pod("p2", slots=3)), places=places)
    assert plan(crowded).assignments == {"a": ("p1",), "b": ("p1",), "c": ("p2",)}


def test_a_planner_takes_the_first_places_that_it_is_given_and_then_its_own() -> None:
    snapshot = a_snapshot(an_adapter("a"), a_pod("p1"), a_pod("p2"))
    usual = plan(snapshot).assignments["a"]
    (other,) = {"p1", "p2"} - set(usual)
    places = Places({"a": (other,)}, frozenset({"p1", "p2"}))
    remembers = Planner(remember=True)
    assert remembers.plan(replace(snapshot, places=places)).assignments == {"a": (other,)}
    assert remembers.plan(replace(snapshot, adapters=(an_adapter("a", demand=2.0),))).assignments == {"a": (other,)}
    assert remembers.snapshot.places.assignments == {"a": (other,)}
    forgets = Planner()
    first = forgets.plan(replace(snapshot, places=places))
    assert first.assignments == {"a": (other,)}
    assert forgets.plan(snapshot).assignments == {"a": usual}
    assert forgets.update(pods=[a_pod("p3", base_model="qwen")]).assignments == {"a": usual}


def test_the_same_plan_is_given_again_where_nothing_has_changed() -> None:
    planner = Planner()
    snapshot = a_snapshot(an_adapter("a"), an_adapter("b"), a_pod(slots=1))
    made = planner.plan(snapshot)
    assert planner.update() is made
    assert planner.plan(snapshot) is made
    assert planner.plan(Snapshot(snapshot.adapters[::-1], snapshot.pods)) is made
    assert planner.plan(Snapshot(tuple(replace(a) for a in snapshot.adapters), snapshot.pods)) is made
    assert planner.plan(replace(snapshot, pods=(a_pod(slots=2),))) == plan(replace(snapshot, pods=(a_pod(slots=2),)))


@pytest.mark.parametrize("pods", [1, 2])
def test_a_broken_version_of_higher_priority_evicts_a_healthy_neighbour_once_at_most(pods: int) -> None:
    neighbours = [an_adapter(f"n{n}") for n in range(pods)]
    fleet = Fleet(*neighbours, *(a_pod(f"p{n}", slots=1, node=f"n{n}") for n in range(pods)))
    fleet.come_to_rest()
    fleet.world.adapters["broken"] = an_adapter("broken", priority=1)
    evictions = 0
    for _ in range(12):
        made = fleet.plan()
        evictions += sum(isinstance(action, Unload) for action in made.actions)
        fleet.world.begin_all(made)
        for pod, resident in fleet.world.in_flight():
            (fleet.world.fail if resident.name == "broken" else fleet.world.end)(pod, resident)
        if not fleet.plan().actions:
            for key, pod in fleet.world.pods.items():  # all failures are due again
                fleet.world.pods[key] = replace(pod, excluded={})
    assert evictions == 1
    assert [len(fleet.where(neighbour.key)) for neighbour in neighbours] == [1] * pods


def test_a_version_that_failed_takes_room_again_once_it_has_served_or_is_another() -> None:
    fleet = Fleet(an_adapter("high", priority=1), a_pod("p1", slots=1, excluded={"high": (Reason.LOAD_FAILED, "no")}))
    fleet.plan()
    fleet.world.adapters["low"] = an_adapter("low")
    fleet.come_to_rest()
    fleet.world.pods["p1"] = replace(fleet.world.pods["p1"], excluded={})
    assert fleet.plan().actions == () and fleet.plan().places.failed == {"high": "v1"}
    fleet.update("high")
    made = fleet.plan()
    assert [action.cause for action in made.actions if isinstance(action, Unload)] == [UnloadCause.PREEMPTED]
    assert not made.places.failed
    fleet.world.pods["p2"] = holding(a_pod("p2", slots=1, excluded={"high": (Reason.LOAD_FAILED, "no")}))
    fleet.world.pods["p2"] = replace(fleet.world.pods["p2"], excluded={"high": (Reason.NAME_TAKEN, "no")})
    assert not fleet.plan().places.failed


def test_one_of_higher_priority_whose_files_could_not_be_brought_takes_room_once_that_is_past() -> None:
    fleet = Fleet(an_adapter("low"), a_pod("p1", slots=1))
    fleet.come_to_rest()
    fleet.world.adapters["high"] = an_adapter("high", priority=1)
    pod = fleet.world.pods["p1"]
    away = {"high": (Reason.LOAD_FAILED, "the store is away")}
    fleet.world.pods["p1"] = replace(pod, excluded=away, failed_lately=frozenset({"high"}))
    assert fleet.plan().actions == ()
    fleet.world.pods["p1"] = replace(pod, failed_lately=frozenset({"high"}))  # due again, and nobody makes room yet
    assert fleet.plan().actions == ()
    fleet.world.pods["p1"] = pod
    assert [action.adapter for action in fleet.plan().actions] == ["low"]


def test_what_has_failed_for_a_reason_of_its_own_is_remembered_though_its_files_could_not_be_brought_either() -> None:
    away = {"high": (Reason.LOAD_FAILED, "no")}
    pods = [a_pod(f"p{n}", slots=1, excluded=away, failed_lately=frozenset({"high"} if n else ())) for n in range(2)]
    fleet = Fleet(an_adapter("high", priority=1), *pods)
    assert fleet.plan().places.failed == {"high": "v1"}


def test_the_only_reason_of_a_load_that_waits_for_its_engine_is_that_it_is_missing() -> None:
    fleet = Fleet(an_adapter("a"), a_pod())
    for _ in range(3):
        made = fleet.plan()
        assert made.actions == (Load("p1", "a", "v1", LoadCause.MISSING),)
        fleet.world.adapters["a"] = replace(fleet.world.adapters["a"], age_rank=fleet.world.adapters["a"].age_rank + 1)


def test_thousands_that_come_or_go_at_once_are_put_in_order_at_once() -> None:
    adapters = [an_adapter(f"a{n:03}", age_rank=n) for n in range(150)]
    fleet = Fleet(*adapters, a_pod("p1", slots=200))
    fleet.plan()
    fleet.world.pods["p2"] = a_pod("p2", base_model="qwen")
    made = fleet.plan()
    assert [action.adapter for action in made.actions] == [adapter.key for adapter in adapters]
    for adapter in adapters[::2]:
        fleet.world.adapters[adapter.key] = replace(adapter, age_rank=-adapter.age_rank)
    order = [*(adapter.key for adapter in adapters[::-1][1::2]), *(adapter.key for adapter in adapters[1::2])]
    assert [action.adapter for action in fleet.plan().actions] == order


def test_a_place_on_a_pod_that_goes_is_given_up() -> None:
    adapter = an_adapter("a")
    planner = Planner(remember=True)
    planner.update(adapters=[adapter], pods=[a_pod("p1")])
    planner.update(pods=[a_pod("p2", base_model="qwen")])
    assert planner.update(pods=[a_pod("p1", slots=3)], adapters=[replace(adapter, demand=1.0)]).assignments["a"]
    assert planner.update(removed_pods=["p1"]).assignments == {"a": ()}
    planner.update(pods=[holding(a_pod("p3"), a_replica("a"))])
    assert planner.update(removed_pods=["p3"], adapters=[adapter]).assignments == {"a": ()}
    places = Places({"a": ("gone",)}, frozenset({"gone"}))
    assert plan(Snapshot((adapter,), (a_pod("p1"),), places)).assignments == {"a": ("p1",)}


def test_loads_that_go_on_waiting_are_placed_anew_by_a_planner_when_a_pod_comes() -> None:
    planner = Planner(remember=True)
    planner.plan(a_snapshot(an_adapter("a"), an_adapter("b"), a_pod("p1")))
    held = planner.update(pods=[a_pod("p1", labels={"tier": "gold"})])
    assert loads(held) == [("a", "p1"), ("b", "p1")]
    made = planner.update(pods=[a_pod("p2")])
    assert sorted(pod for _, pod in loads(made)) == ["p1", "p2"]


def test_a_replica_that_is_back_takes_the_place_that_was_held_in_its_stead() -> None:
    twice = an_adapter(replicas=2)
    pods = [holding(a_pod(key), a_replica(twice)) for key in ("p1", "p2")]
    planner = Planner(remember=True)
    planner.update(adapters=[twice], pods=[*pods, a_pod("p3")])
    assert loads(planner.update(pods=[replace(pods[1], ready=False)])) == [("a", "p3")]
    held = replace(pods[0], ready=False, held=True)
    assert loads(planner.update(pods=[held])) == [("a", "p3")]
    now = planner.snapshot
    made = planner.update(pods=[pods[1]])
    assert not made.actions and made.assignments["a"] == ("p1", "p2")
    assert made == plan(replace(now, pods=(held, pods[1], a_pod("p3"))))
