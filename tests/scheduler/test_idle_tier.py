"""Adapters that nobody uses stay while nobody wants their room, and go before all others, longest unused first."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lora_scheduler import (
    Adapter,
    Plan,
    PreemptionPolicy,
    Reason,
    ReplicaPolicy,
    Selector,
    Unload,
    UnloadCause,
    plan,
    simulate,
)
from tests.scheduler.builders import (
    GIB,
    LOADING,
    UNLOADING,
    a_foreigner,
    a_pod,
    a_replica,
    a_snapshot,
    an_adapter,
    holding,
    loads,
    plan_for,
    run,
    unload_causes,
    unloads,
    where,
)

NEVER = PreemptionPolicy.NONE
GOLD = Selector((("tier", "gold"),))


def idle(key: str = "idle", used: int = 1000, **fields: object) -> Adapter:
    return an_adapter(key, idle_since=used, **fields)


def nothing(made: Plan) -> bool:
    return not made.actions and not made.waiting and not made.missing


@pytest.mark.parametrize("policy", list(ReplicaPolicy))
def test_keeps_the_replicas_it_has_and_gets_no_others(policy: ReplicaPolicy) -> None:
    unused = idle(replicas=3, replica_policy=policy)
    made = plan_for(unused, holding(a_pod("p1"), a_replica(unused)), a_pod("p2"), a_pod("p3"))
    assert nothing(made) and made.assignments == {"idle": ("p1",)}
    assert nothing(plan_for(unused, a_pod("p1")))


def test_keeps_more_replicas_than_were_ever_wanted() -> None:
    unused = idle(replicas=0)
    made = plan_for(unused, *(holding(a_pod(pod), a_replica(unused)) for pod in ("p1", "p2")))
    assert nothing(made) and made.assignments == {"idle": ("p1", "p2")}


def test_a_replica_that_was_on_its_way_when_the_last_request_was_long_ago_may_arrive() -> None:
    unused = idle()
    assert nothing(plan_for(unused, holding(a_pod(), a_replica(unused, state=LOADING))))


@pytest.mark.parametrize("fields", [{}, {"priority": -1_000_000_000}, {"preemption": NEVER}])
def test_gives_its_room_to_whoever_lacks_it_the_longest_unused_first(fields: dict[str, object]) -> None:
    unused = [idle("i1", 3000), idle("i2", 1000), idle("i3", 2000)]
    pods = [holding(a_pod(f"p{n}", slots=1), a_replica(one)) for n, one in enumerate(unused)]
    made = plan_for(*unused, an_adapter("new", **fields), *pods)
    assert unloads(made) == [("i2", "p1")] and unload_causes(made) == {UnloadCause.PREEMPTED}
    assert made.assignments == {"i1": ("p0",), "i2": (), "i3": ("p2",), "new": ("p1",)} and not made.missing
    settled, plans = run(a_snapshot(*unused, an_adapter("new", **fields), *pods))
    assert where(settled, "new") == ["p1"] and len(plans) == 2


def test_whoever_gives_way_is_not_loaded_elsewhere() -> None:
    unused = idle(replicas=2)
    gold = an_adapter("gold", selector=GOLD)
    full = holding(a_pod("p1", slots=1, labels={"tier": "gold"}), a_replica(unused))
    settled, _ = run(a_snapshot(unused, gold, full, a_pod("p2")))
    assert where(settled, "idle") == [] and where(settled, "gold") == ["p1"]


def test_free_room_is_taken_first() -> None:
    unused = idle()
    made = plan_for(unused, an_adapter("new"), holding(a_pod("p1", slots=1), a_replica(unused)), a_pod("p2", slots=1))
    assert loads(made) == [("new", "p2")] and not unloads(made)


def test_goes_before_lower_priorities_and_before_replicas_that_follow_demand() -> None:
    low, spare = an_adapter("low"), an_adapter("hot", replica_policy=ReplicaPolicy.AUTO, demand=9.0)
    unused, high = idle(), an_adapter("high", priority=5)
    pods = [
        holding(a_pod("p1", slots=2), a_replica(low), a_replica(spare)),
        holding(a_pod("p2", slots=2), a_replica(unused), a_replica(spare)),
    ]
    made = plan_for(low, spare, unused, high, *pods)
    assert unloads(made) == [("idle", "p2")] and made.assignments["high"] == ("p2",)


def test_no_room_is_taken_that_would_not_be_enough() -> None:
    unused, firm = idle(bytes=GIB), an_adapter("firm", bytes=2 * GIB)
    pod = holding(a_pod(memory=3), a_replica(unused), a_replica(firm))
    made = plan_for(unused, firm, an_adapter("big", bytes=2 * GIB), pod)
    assert not made.actions and made.missing == {"big": 1}


def test_who_preempts_nobody_leaves_lower_priorities_alone() -> None:
    low, high = an_adapter("low"), an_adapter("high", priority=5, preemption=NEVER)
    made = plan_for(low, high, idle(), holding(a_pod(slots=1), a_replica(low)))
    assert not made.actions and made.missing == {"high": 1}


def test_another_version_is_unloaded_and_not_updated() -> None:
    unused = idle(version="v2")
    old = a_replica(unused, version="v1")
    made = plan_for(unused, holding(a_pod("p1"), old), a_pod("p2"))
    assert unloads(made) == [("idle", "p1")] and not loads(made) and not made.missing
    beside = a_pod(side_by_side=frozenset({"idle"}))
    made = plan_for(unused, holding(beside, old, a_replica(unused, name="idle--v2")))
    assert unloads(made) == [("idle", "p1")] and made.assignments == {"idle": ("p1",)}


@pytest.mark.parametrize(
    ("fields", "excluded"),
    [({"rank": 64}, {}), ({"selector": GOLD}, {}), ({}, {"idle": (Reason.UNSUPPORTED_BY_ENGINE, "it cannot")})],
)
def test_leaves_where_it_may_no_longer_be(fields: dict[str, object], excluded: dict[str, tuple[Reason, str]]) -> None:
    unused = idle(**fields)
    made = plan_for(unused, holding(a_pod("p1", excluded=excluded), a_replica(unused)), a_pod("p2"))
    assert unloads(made) == [("idle", "p1")] and not loads(made) and not made.missing


def test_a_pod_that_is_over_its_limit_is_rid_of_it_first() -> None:
    unused, always = idle(), an_adapter("always", priority=-9)
    pod = holding(a_pod(slots=2), a_foreigner(), a_replica(always), a_replica(unused))
    made = plan_for(always, unused, pod)
    assert unloads(made) == [("idle", "p1")] and unload_causes(made) == {UnloadCause.SURPLUS}


def test_counts_for_no_load_and_is_not_moved() -> None:
    unused = [idle(f"i{n}", demand=50.0) for n in range(3)]
    used = an_adapter("used", demand=1.0)
    crowded = holding(a_pod("p1", slots=8), *(a_replica(one) for one in unused))
    made = plan_for(*unused, used, crowded, holding(a_pod("p2", slots=8), a_replica(used)))
    assert nothing(made) and not made.overloads
    close = {"topology.kubernetes.io/zone": "z1"}
    pods = [a_pod(f"p{n}", node_labels=close) for n in range(2)]
    lone = idle(topology_key="topology.kubernetes.io/zone")
    apart = a_pod("p9", node_labels={"topology.kubernetes.io/zone": "z2"})
    assert nothing(plan_for(lone, *(holding(pod, a_replica(lone)) for pod in pods), apart))


def test_replicas_that_follow_demand_and_replicas_on_every_pod_take_its_room() -> None:
    hot = an_adapter("hot", replica_policy=ReplicaPolicy.AUTO, demand=9.0)
    everywhere = an_adapter("all", replica_policy=ReplicaPolicy.ALL_PODS)
    unused = idle()
    for wanting in (hot, everywhere):
        pods = [holding(a_pod("p1", slots=1), a_replica(wanting)), holding(a_pod("p2", slots=1), a_replica(unused))]
        made = plan_for(wanting, unused, *pods)
        assert unloads(made) == [("idle", "p2")] and made.assignments[wanting.key] == ("p1", "p2")


def test_leaves_so_that_an_overloaded_pod_can_give_up_a_replica() -> None:
    busy = [an_adapter(f"busy{n}", demand=4.0) for n in range(3)]
    unused, other = idle("i1", 1000), idle("i2", 2000)
    pods = [
        holding(a_pod("p1", slots=3), *(a_replica(one) for one in busy)),
        holding(a_pod("p2", slots=2), a_replica(unused), a_replica(other)),
    ]
    snapshot = a_snapshot(*busy, unused, other, *pods)
    made = plan(snapshot)
    assert unloads(made) == [("i1", "p2")] and not loads(made) and not made.overloads
    going = replace(pods[1], residents=(a_replica(unused, state=UNLOADING), a_replica(other)))
    assert not plan(a_snapshot(*busy, unused, other, pods[0], going)).actions, "one is leaving, and that is enough"
    settled, _ = run(snapshot)
    assert sorted(len(where(settled, one.key)) for one in busy) == [1, 1, 1]
    assert sum(where(settled, one.key) == ["p2"] for one in busy) == 1 and where(settled, "i2") == ["p2"]


def test_leaves_so_that_replicas_can_be_spread_again() -> None:
    zone = "topology.kubernetes.io/zone"
    spread, unused, other = an_adapter(replicas=2, topology_key=zone), idle("i1", 1000), idle("i2", 2000)
    close = [holding(a_pod(f"p{n}", slots=1, node_labels={zone: "z1"}), a_replica(spread)) for n in (1, 2)]
    apart = holding(a_pod("p3", slots=2, node_labels={zone: "z2"}), a_replica(unused), a_replica(other))
    snapshot = a_snapshot(spread, unused, other, *close, apart)
    made = plan(snapshot)
    assert unloads(made) == [("i1", "p3")] and not loads(made)
    going = replace(apart, residents=(a_replica(unused, state=UNLOADING), a_replica(other)))
    assert not plan(a_snapshot(spread, unused, other, *close, going)).actions, "one is leaving, and that is enough"
    settled, _ = run(snapshot)
    assert "p3" in where(settled) and len(where(settled)) == 2 and where(settled, "i2") == ["p3"]
    firm = replace(other, idle_since=None, priority=3)
    assert not plan(a_snapshot(spread, unused, firm, *close, holding(a_pod("p3", slots=1), a_replica(firm)))).actions


def test_stays_where_an_overloaded_pod_can_give_up_a_replica_to_free_room_or_to_nobody() -> None:
    busy = [an_adapter(f"busy{n}", demand=4.0) for n in range(2)]
    unused = idle()
    full = holding(a_pod("p1", slots=3), *(a_replica(one) for one in busy))
    taken = holding(a_pod("p2", slots=1), a_replica(unused))
    made = plan_for(*busy, unused, full, taken, a_pod("p3", slots=1))
    assert not unloads(made) and len(loads(made)) == 1
    picky = [replace(one, selector=GOLD) for one in busy]
    gold = replace(full, labels={"tier": "gold"})
    made = plan_for(*picky, unused, gold, taken)
    assert not made.actions and made.overloads


def test_gets_its_replicas_when_it_is_used_again() -> None:
    used = an_adapter("idle", replicas=2)
    made = plan_for(used, holding(a_pod("p1"), a_replica(used)), a_pod("p2"))
    assert loads(made) == [("idle", "p2")]


def test_leaves_so_that_a_new_version_can_be_loaded_beside_the_old_one() -> None:
    new, unused, other = an_adapter(version="v2"), idle("i1", 1000), idle("i2", 2000)
    old = a_replica(new, version="v1")
    pod = holding(a_pod(slots=3, side_by_side=frozenset({"a"})), old, a_replica(unused), a_replica(other))
    made = plan_for(new, unused, other, pod)
    assert unloads(made) == [("i1", "p1")] and "nobody uses" in made.waiting[0][1].message
    assert next(action.on_behalf_of for action in made.actions if isinstance(action, Unload)) == "a"
    going = replace(pod, residents=(old, a_replica(unused, state=UNLOADING), a_replica(other)))
    made = plan_for(new, unused, other, going)
    assert not made.actions, "one is leaving, and that is enough"
    settled, plans = run(a_snapshot(new, unused, other, pod))
    assert where(settled, "a", "v2") == ["p1"] and where(settled, "i2") == ["p1"]
    assert [len(made.actions) for made in plans] == [1, 1, 1]


def test_leaves_another_pod_so_that_the_only_replica_can_be_updated_there() -> None:
    new, unused = an_adapter(version="v2"), idle(bytes=GIB // 2)
    old, firm = a_replica(new, version="v1"), an_adapter("firm", priority=-5)
    pods = [
        holding(a_pod("p1", slots=1), old),
        holding(a_pod("p2", slots=1), a_replica(unused)),
        holding(a_pod("p3", slots=1), a_replica(firm)),
    ]
    made = plan_for(new, unused, firm, *pods)
    assert unloads(made) == [("idle", "p2")] and "have left pod p2" in made.waiting[0][1].message
    snapshot = a_snapshot(new, unused, firm, *pods)
    while (made := plan(snapshot)).actions:
        snapshot = simulate(snapshot, made, settle=True)
        assert where(snapshot, "a"), "no version serves in between"
    assert where(snapshot, "a", "v2") == where(snapshot, "a") == ["p2"]


def test_the_old_version_leaves_first_where_too_little_is_unused() -> None:
    new, firm = an_adapter(version="v2"), an_adapter("firm")
    pod = holding(a_pod(slots=2, side_by_side=frozenset({"a"})), a_replica(new, version="v1"), a_replica(firm))
    made = plan_for(new, firm, idle(), pod)
    assert unloads(made) == [("a", "p1")] and unload_causes(made) == {UnloadCause.SUPERSEDED}
