"""Replicas that serve move to be spread again, and replicas that move for the sake of load stay apart."""

from __future__ import annotations

from dataclasses import replace

from lora_scheduler import Load, LoadCause, Planner, ReplicaPolicy
from tests.scheduler.builders import (
    LOADING,
    a_pod,
    a_replica,
    a_snapshot,
    an_adapter,
    holding,
    load_causes,
    loads,
    plan_for,
    run,
    unloads,
    where,
)
from tests.scheduler.test_balance_moves import ZONE, crowd, in_zone, load_of


def test_replicas_spread_again_when_a_zone_has_come_back() -> None:
    adapter = an_adapter(replicas=2, topology_key=ZONE)
    crowded = [holding(a_pod(key, node_labels=in_zone("z1")), a_replica()) for key in ("p1", "p2")]
    back = a_pod("p3", node_labels=in_zone("z2"))
    made = plan_for(adapter, *crowded, back)
    assert loads(made) == [("a", "p3")] and load_causes(made) == {LoadCause.MOVE} and not unloads(made)
    rested, _ = run(a_snapshot(adapter, *crowded, back))
    assert "p3" in where(rested) and len(where(rested)) == 2


def test_a_zone_without_room_is_no_reason_to_move() -> None:
    other = an_adapter("b")
    adapter = an_adapter(replicas=2, topology_key=ZONE)
    crowded = [holding(a_pod(key, node_labels=in_zone("z1")), a_replica()) for key in ("p1", "p2")]
    full = a_pod("p3", slots=1, node_labels=in_zone("z2"), residents=(a_replica(other),))
    assert not plan_for(adapter, other, *crowded, full).actions


def test_replicas_that_are_as_far_apart_as_can_be_stay() -> None:
    adapter = an_adapter(replicas=3, topology_key=ZONE)
    pods = [holding(a_pod(f"p{i}", node_labels=in_zone(f"z{i % 2}")), a_replica()) for i in range(3)]
    assert not plan_for(adapter, *pods, a_pod("p9", node_labels=in_zone("z1"))).actions


def test_spread_moves_are_counted_too_and_leave_alone_what_is_not_at_rest() -> None:
    adapters = [an_adapter(key, replicas=2, topology_key=ZONE) for key in "abc"]
    crowded = [holding(a_pod(k, node_labels=in_zone("z1")), *map(a_replica, adapters)) for k in ("p1", "p2")]
    back = a_pod("p3", node_labels=in_zone("z2"))
    assert len(loads(plan_for(*adapters, *crowded, back))) == 2
    lacking = replace(adapters[0], replicas=3)
    made = plan_for(lacking, *crowded[:2], back)
    assert load_causes(made) == {LoadCause.MISSING}
    loading = holding(a_pod("p2", node_labels=in_zone("z1")), a_replica(adapters[0], state=LOADING))
    assert not plan_for(
        adapters[0], holding(a_pod("p1", node_labels=in_zone("z1")), a_replica()), loading, back
    ).actions


def test_all_pods_is_on_every_pod_and_never_moves() -> None:
    adapter = an_adapter(demand=5.0, replica_policy=ReplicaPolicy.ALL_PODS, topology_key=ZONE)
    busy = an_adapter("b", demand=0.1)
    pods = [holding(a_pod(key, node_labels=in_zone("z1")), a_replica()) for key in ("p1", "p2")]
    made = plan_for(adapter, busy, *pods, holding(a_pod("p3", node_labels=in_zone("z2")), a_replica()))
    assert all(isinstance(action, Load) and action.adapter == "b" for action in made.actions)


def test_a_move_keeps_replicas_apart() -> None:
    twice = an_adapter("twice", demand=8.0, replicas=2, topology_key=ZONE)
    other = crowd(4.0, 4.0)
    pods = (
        holding(a_pod("p1", slots=8, node_labels=in_zone("z1")), a_replica(twice), *map(a_replica, other)),
        holding(a_pod("p2", slots=8, node_labels=in_zone("z2")), a_replica(twice)),
        a_pod("p3", slots=8, node_labels=in_zone("z2")),
    )
    rested, _ = run(a_snapshot(twice, *other, *pods))
    zones = {pod.key: pod.node_labels[ZONE] for pod in pods}
    assert {zones[pod] for pod in where(rested, "twice")} == {"z1", "z2"}
    assert max(load_of(rested).values()) <= 16 / 3 * 1.1 + 3


def test_replicas_that_had_nowhere_to_go_spread_when_a_zone_comes() -> None:
    adapter = an_adapter("a", replicas=4, topology_key=ZONE)
    pods = [holding(a_pod(f"p{n}", node_labels=in_zone(f"z{n % 2}")), a_replica(adapter)) for n in range(4)]
    planner = Planner()
    assert planner.update(adapters=[adapter], pods=pods).actions == ()
    made = planner.update(pods=[a_pod("p9", node_labels=in_zone("z2"))])
    assert loads(made) == [("a", "p9")]
