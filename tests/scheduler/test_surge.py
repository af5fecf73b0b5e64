"""An update has a replica more for a time where there is room, so that no replica less serves meanwhile."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lora_scheduler import LoadCause, Pod, Policy, Reason, ReplicaPolicy, plan
from tests.scheduler.builders import (
    a_foreigner,
    a_pod,
    a_replica,
    a_snapshot,
    an_adapter,
    holding,
    load_causes,
    loads,
    plan_for,
    unloads,
    where,
)
from tests.scheduler.world import World

NEW = an_adapter(version="v2", replicas=2)
OLD = a_replica(version="v1")
ZONE = "topology.kubernetes.io/zone"


def one_slot(key: str, zone: str = "", **fields: object) -> Pod:
    return a_pod(key, slots=1, node_labels={ZONE: zone} if zone else {}, **fields)


def fewest_serving(world: World, policy: Policy, rounds: int = 30) -> int:
    """How many replicas serve at the worst moment until all is updated and at rest."""
    fewest = world.serving("a")
    for _ in range(rounds):
        made = plan(world.snapshot, policy)
        world.begin_all(made)
        flights = world.in_flight()
        fewest = min(fewest, world.serving("a"))
        if not made.actions and not flights:
            return fewest
        world.end(*flights[0])
    raise AssertionError(f"not at rest after {rounds} rounds")


@pytest.mark.parametrize("replicas", [2, 3, 5])
@pytest.mark.parametrize("max_surge", [1, 2])
def test_with_one_free_pod_an_update_never_serves_from_fewer_pods(replicas: int, max_surge: int) -> None:
    world = World()
    world.adapters = {"a": replace(NEW, replicas=replicas)}
    world.pods = {f"p{n}": holding(one_slot(f"p{n}"), OLD) for n in range(replicas)} | {"free": one_slot("free")}
    assert fewest_serving(world, Policy(max_surge=max_surge)) == replicas
    assert len(where(world.snapshot, version="v2")) == len(where(world.snapshot)) == replicas


def test_the_new_version_is_loaded_on_the_free_pod_before_an_old_one_goes() -> None:
    made = plan_for(NEW, *(holding(a_pod(key), OLD) for key in ("p1", "p2")), a_pod("p3"))
    assert loads(made) == [("a", "p3")] and load_causes(made) == {LoadCause.SURGE} and not unloads(made)
    assert made.assignments["a"] == ("p2", "p3") and not made.missing


def test_as_many_surge_at_a_time_as_are_allowed() -> None:
    pods = [holding(a_pod(f"p{n}"), OLD) for n in range(4)] + [a_pod(f"free{n}") for n in range(4)]
    for max_surge in (0, 1, 3, 9):
        made = plan_for(replace(NEW, replicas=4), *pods, policy=Policy(max_surge=max_surge))
        assert (len(loads(made)), len(unloads(made))) == ((min(max_surge, 4), 0) if max_surge else (0, 1))


def test_without_room_elsewhere_one_replica_is_exchanged_in_place() -> None:
    made = plan_for(NEW, *(holding(one_slot(key), OLD) for key in ("p1", "p2")))
    assert unloads(made) == [("a", "p1")] and not loads(made)


def test_the_next_one_waits_for_the_pod_that_the_one_before_has_left() -> None:
    done = [holding(one_slot("p3"), a_replica(NEW)), *(holding(one_slot(key), OLD) for key in ("p1", "p2"))]
    made = plan_for(NEW, *done)
    assert len(unloads(made)) == 1 and not loads(made)  # the surplus one; the other old one serves on
    assert len([refusal for load, refusal in made.waiting if refusal.reason is Reason.WAITING_FOR_ROOM]) == 1


def test_it_does_not_wait_for_a_pod_that_may_not_have_the_new_version() -> None:
    barred = holding(one_slot("p1", excluded={"a": (Reason.STALE_PREFIX_CACHE, "it served v1")}), OLD)
    made = plan_for(replace(NEW, replicas=3), barred, *(holding(one_slot(f"p{n}"), OLD) for n in (2, 3)))
    assert unloads(made) == [("a", "p2")]


def test_replicas_stay_spread_over_the_zones() -> None:
    adapter = replace(NEW, topology_key=ZONE)
    pods = [holding(one_slot("p1", "z1"), OLD), holding(one_slot("p2", "z2"), OLD), one_slot("p3", "z1")]
    world = World()
    world.adapters, world.pods = {"a": adapter}, {pod.key: pod for pod in pods}
    assert fewest_serving(world, Policy()) >= 1
    assert "p2" in where(world.snapshot, version="v2") and len(where(world.snapshot)) == 2


def test_a_version_that_has_failed_does_not_surge_to_pod_after_pod() -> None:
    failed = a_pod("p3", excluded={"a": (Reason.LOAD_FAILED, "the engine answered 500")})
    made = plan_for(NEW, *(holding(a_pod(key), OLD) for key in ("p1", "p2")), failed, a_pod("p4"))
    assert not made.actions


def test_what_nobody_uses_leaves_for_a_surge() -> None:
    idle = an_adapter("idle", idle_since=7)
    made = plan_for(
        NEW, idle, *(holding(one_slot(key), OLD) for key in ("p1", "p2")), holding(one_slot("p3"), a_replica(idle))
    )
    assert unloads(made) == [("idle", "p3")]


def test_an_adapter_on_every_pod_is_updated_in_place() -> None:
    everywhere = replace(NEW, replica_policy=ReplicaPolicy.ALL_PODS)
    pods = [*(holding(a_pod(key), OLD) for key in ("p1", "p2")), holding(one_slot("p3"), a_foreigner())]
    made = plan_for(everywhere, *pods)
    assert unloads(made) == [("a", "p1")]


def test_a_surge_into_a_fleet_without_room_for_a_neighbour_leaves_nothing_worse() -> None:
    neighbour = an_adapter("b", replicas=2, age_rank=1)
    snapshot = a_snapshot(NEW, neighbour, *(holding(a_pod(key, slots=2), OLD, a_replica("b")) for key in ("p1", "p2")))
    world = World()
    world.adapters = {adapter.key: adapter for adapter in snapshot.adapters}
    world.pods = {pod.key: pod for pod in (*snapshot.pods, one_slot("p3"))}
    assert fewest_serving(world, Policy()) == 2
    assert world.serving("b") == 2


@pytest.mark.parametrize(("own", "policy", "surges"), [(0, 1, 0), (1, 0, 1), (2, 1, 2), (None, 2, 2), (None, 0, 0)])
def test_an_adapter_may_have_a_surge_of_its_own(own: int | None, policy: int, surges: int) -> None:
    new = replace(NEW, replicas=3, max_surge=own)
    pods = [*(holding(one_slot(f"p{n}"), OLD) for n in range(3)), *(one_slot(f"free{n}") for n in range(3))]
    made = plan_for(new, *pods, policy=Policy(max_surge=policy))
    assert len(loads(made)) == surges and len(unloads(made)) == (surges == 0)
