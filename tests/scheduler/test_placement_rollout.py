"""A new version replaces the old one pod by pod, and the adapter is answered throughout wherever that is possible."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from lora_scheduler import (
    Load,
    LoadCause,
    Plan,
    Pod,
    Policy,
    Reason,
    ReplicaPolicy,
    Resident,
    ResidentState,
    Snapshot,
    UnloadCause,
    plan,
    simulate,
)
from tests.scheduler.builders import (
    GIB,
    LOADING,
    UNLOADING,
    a_pod,
    a_replica,
    a_snapshot,
    an_adapter,
    holding,
    load_causes,
    loads,
    message_on,
    plan_for,
    reason_on,
    run,
    unload_causes,
    unloads,
    where,
)
from tests.scheduler.world import World

NEW = an_adapter(version="v2")
OLD = a_replica(version="v1")
FAILED = {"a": (Reason.LOAD_FAILED, "the engine answered 500")}


def beside(key: str, *residents: Resident, **fields: Any) -> Pod:
    return holding(a_pod(key, side_by_side=frozenset({"a"}), **fields), *residents)


def waiting_on(made: Plan, pod: str) -> tuple[Reason, str]:
    return next((refusal.reason, refusal.message) for load, refusal in made.waiting if load.pod == pod)


def serving(snapshot: Snapshot) -> int:
    return sum(
        any(r.adapter == "a" and r.state is ResidentState.LOADED for r in pod.residents) for pod in snapshot.pods
    )


# --- several replicas


def test_one_pod_at_a_time_gives_up_the_old_version_while_the_others_serve() -> None:
    adapter = replace(NEW, replicas=3)
    made = plan_for(adapter, *(holding(a_pod(f"p{i}"), OLD) for i in (1, 2, 3)))
    assert unloads(made) == [("a", "p1")] and unload_causes(made) == {UnloadCause.SUPERSEDED}
    assert not loads(made) and made.assignments["a"] == ("p1", "p2", "p3") and not made.missing
    assert waiting_on(made, "p1") == (Reason.WAITING_FOR_ROOM, "version v1 has to leave first")
    assert waiting_on(made, "p2")[1] == "keeps version v1 until its turn comes or room is free"


@pytest.mark.parametrize("state", [UNLOADING, LOADING])
def test_the_next_pod_waits_until_the_one_before_serves(state: ResidentState) -> None:
    first = replace(OLD, state=UNLOADING) if state is UNLOADING else a_replica(NEW, state=LOADING)
    made = plan_for(replace(NEW, replicas=2), holding(a_pod("p1"), first), holding(a_pod("p2"), OLD))
    assert not made.actions
    assert made.assignments["a"] == ("p1", "p2")


def test_the_new_version_comes_to_where_the_old_one_is_leaving() -> None:
    leaving = holding(a_pod("p1"), replace(OLD, state=UNLOADING))
    made = plan_for(replace(NEW, replicas=2), leaving, holding(a_pod("p2"), OLD), a_pod("p3"))
    assert made.assignments["a"] == ("p1", "p2") and not made.actions
    assert made.waiting[0][0] == Load("p1", "a", "v2", LoadCause.UPDATE)


@pytest.mark.parametrize("max_unavailable", [1, 2, 5])
def test_an_update_never_has_more_in_transition_than_allowed_and_keeps_one_serving(max_unavailable: int) -> None:
    policy = Policy(max_unavailable=max_unavailable)
    adapter = replace(NEW, replicas=4)
    world = World()
    world.adapters = {"a": adapter}
    world.pods = {f"p{i}": holding(a_pod(f"p{i}"), OLD) for i in range(4)}
    moved = 0
    for _ in range(40):
        made = plan(world.snapshot, policy)
        world.begin_all(made)
        moved += len(made.actions)
        assert world.serving("a") >= max(4 - max_unavailable, 1)
        flights = world.in_flight()
        assert len(flights) <= max_unavailable
        if not made.actions and not flights:
            break
        world.end(*flights[0])
    assert where(world.snapshot, version="v2") == [f"p{i}" for i in range(4)]
    assert moved == 8


def test_an_update_of_several_replicas_without_surge_stays_on_its_pods() -> None:
    adapters = [an_adapter(f"a{i}", replicas=2) for i in range(5)]
    rested, _ = run(a_snapshot(*adapters, *(a_pod(f"p{i}", slots=6) for i in range(4))))
    changed = replace(rested, adapters=tuple(replace(a, version="v2") for a in adapters))
    kept_in_mind = replace(
        changed,
        adapters=tuple(replace(a, previous_pods=frozenset(where(rested, a.key))) for a in changed.adapters),
    )
    after, _ = run(kept_in_mind, Policy(max_surge=0))
    for adapter in adapters:
        assert where(after, adapter.key, "v2") == where(rested, adapter.key) == where(after, adapter.key)


def test_a_replica_that_is_not_ready_is_not_counted_as_serving_and_not_updated() -> None:
    adapter = replace(NEW, replicas=2)
    held = holding(a_pod("p2", ready=False, held=True), OLD)
    made = plan_for(adapter, holding(a_pod("p1"), OLD), held)
    assert not made.actions
    assert waiting_on(made, "p2") == (Reason.POD_NOT_READY, "the pod is not ready")
    nonsense = replace(held, not_ready=(Reason.INVALID_POD_LIMITS, "max_loras is 'many'"))
    assert unloads(plan_for(adapter, holding(a_pod("p1"), OLD), nonsense)) == [("a", "p1")]  # it answers all the same


def test_an_old_version_that_is_still_arriving_is_left_to_arrive() -> None:
    made = plan_for(NEW, holding(a_pod(), replace(OLD, state=LOADING)))
    assert not made.actions and waiting_on(made, "p1")[1] == "an older version is still being loaded"


def test_an_old_version_leaves_only_when_the_new_one_fits_in_its_place() -> None:
    adapter = replace(NEW, replicas=2, bytes=2 * GIB)
    tight = holding(a_pod("p1", memory=3), OLD, a_replica("x", bytes=2 * GIB, state=UNLOADING))
    made = plan_for(adapter, tight, holding(a_pod("p2", memory=3), OLD, a_replica("y", bytes=2 * GIB, state=UNLOADING)))
    assert not made.actions and made.assignments["a"] == ("p1", "p2")


def test_an_all_pods_adapter_is_updated_pod_by_pod() -> None:
    adapter = replace(NEW, replica_policy=ReplicaPolicy.ALL_PODS)
    rested, plans = run(a_snapshot(adapter, *(holding(a_pod(f"p{i}"), OLD) for i in range(3))))
    assert where(rested, version="v2") == ["p0", "p1", "p2"] and len(plans) == 6


# --- side by side


def test_the_new_version_is_loaded_beside_the_old_one_where_names_allow() -> None:
    made = plan_for(NEW, beside("p1", OLD), a_pod("p2"))
    assert loads(made) == [("a", "p1")] and not unloads(made) and load_causes(made) == {LoadCause.UPDATE}
    arriving = a_replica(NEW, name="a--v2", state=LOADING)
    assert not plan_for(NEW, beside("p1", OLD, arriving), a_pod("p2")).actions
    made = plan_for(NEW, beside("p1", OLD, replace(arriving, state=ResidentState.LOADED)))
    assert unloads(made) == [("a", "p1")] and unload_causes(made) == {UnloadCause.SUPERSEDED}


def test_side_by_side_goes_pod_by_pod_too() -> None:
    adapter = replace(NEW, replicas=2)
    assert loads(plan_for(adapter, beside("p1", OLD), beside("p2", OLD))) == [("a", "p1")]
    both = Policy(max_unavailable=2)
    assert loads(plan_for(adapter, beside("p1", OLD), beside("p2", OLD), policy=both)) == [("a", "p1"), ("a", "p2")]


def test_without_room_for_two_versions_the_old_one_leaves_first() -> None:
    made = plan_for(NEW, beside("p1", OLD, slots=1))
    assert unloads(made) == [("a", "p1")] and not loads(made)


def test_a_name_that_is_still_listed_is_waited_for_side_by_side() -> None:
    leaving = a_replica(NEW, name="a--v2", state=UNLOADING)
    made = plan_for(NEW, beside("p1", OLD, leaving), policy=Policy(max_unavailable=2))
    assert not loads(made)


def test_versions_that_nobody_needs_any_more_go_at_once() -> None:
    older = a_replica(name="a--v0", version="v0")
    made = plan_for(NEW, beside("p1", OLD, older, a_replica(NEW, name="a--v2", state=LOADING)))
    assert unloads(made) == [("a--v0", "p1")] and unload_causes(made) == {UnloadCause.SUPERSEDED}


# --- one replica


def test_an_only_replica_moves_to_a_pod_with_room_before_the_old_one_goes() -> None:
    made = plan_for(NEW, holding(a_pod("p1"), OLD), a_pod("p2"))
    assert loads(made) == [("a", "p2")] and load_causes(made) == {LoadCause.SURGE} and not unloads(made)
    assert made.assignments["a"] == ("p2",) and not made.missing
    arriving = holding(a_pod("p2"), a_replica(NEW, state=LOADING))
    assert not plan_for(NEW, holding(a_pod("p1"), OLD), arriving).actions
    made = plan_for(NEW, holding(a_pod("p1"), OLD), holding(a_pod("p2"), a_replica(NEW)))
    assert unloads(made) == [("a", "p1")] and unload_causes(made) == {UnloadCause.SUPERSEDED}


@pytest.mark.parametrize(
    "other",
    [
        a_pod("p2", base_model="qwen"),
        a_pod("p2", slots=1, residents=(a_replica("x", state=UNLOADING),)),
        a_pod("p2", excluded={"a": (Reason.STALE_PREFIX_CACHE, "it served v1")}),
        a_pod("p2", residents=(a_replica(name="a", state=UNLOADING, version="v0", adapter="gone"),)),
    ],
)
def test_an_only_replica_without_another_pod_is_exchanged_in_place(other: Pod) -> None:
    made = plan_for(NEW, holding(a_pod("p1"), OLD), other)
    assert unloads(made) == [("a", "p1")] and not loads(made)


def test_an_only_replica_is_exchanged_in_place_in_two_steps() -> None:
    rested, plans = run(a_snapshot(NEW, holding(a_pod(slots=1), OLD)))
    assert [len(made.actions) for made in plans] == [1, 1] and where(rested, version="v2") == ["p1"]


def test_an_update_together_with_fewer_replicas_keeps_the_other_replica_until_one_is_done() -> None:
    world = World()
    world.adapters = {"a": NEW}
    world.pods = {key: holding(a_pod(key, slots=1), OLD) for key in ("p1", "p2")}
    for _ in range(10):
        world.begin_all(plan(world.snapshot))
        assert world.serving("a") >= 1
        world.end_all()
    assert len(where(world.snapshot)) == len(where(world.snapshot, version="v2")) == 1


# --- pods that cannot take the new version


@pytest.mark.parametrize(
    "bar",
    [
        {"excluded": {"a": (Reason.STALE_PREFIX_CACHE, "it served v1 under this name")}},
        {"max_rank": 4},
    ],
)
def test_a_pod_that_cannot_take_the_new_version_keeps_the_old_one_until_the_new_one_serves_elsewhere(
    bar: dict[str, Any],
) -> None:
    barred = holding(a_pod("p1", **bar), OLD)
    made = plan_for(NEW, barred)
    assert not made.actions and made.missing == {"a": 1} and made.assignments["a"] == ()
    assert reason_on(made, "p1") in (Reason.STALE_PREFIX_CACHE, Reason.RANK_TOO_HIGH)
    made = plan_for(NEW, barred, a_pod("p2"))
    assert loads(made) == [("a", "p2")] and load_causes(made) == {LoadCause.SURGE} and not unloads(made)
    made = plan_for(replace(NEW, replicas=2), barred, holding(a_pod("p2"), a_replica(NEW)))
    assert not made.actions and made.missing == {"a": 1}
    assert unloads(plan_for(NEW, barred, holding(a_pod("p2"), a_replica(NEW)))) == [("a", "p1")]


def test_a_larger_version_that_does_not_fit_goes_elsewhere_or_is_refused() -> None:
    larger = replace(NEW, bytes=3 * GIB)
    full = holding(a_pod("p1", memory=4), OLD, a_replica("b", bytes=2 * GIB))
    other = an_adapter("b", bytes=2 * GIB)
    made = plan_for(larger, other, full)
    assert not made.actions and message_on(made, "p1") == "needs 3.0 GiB, 2.0 GiB of 4.0 GiB is free"
    made = plan_for(larger, other, full, a_pod("p2"))
    assert loads(made) == [("a", "p2")] and load_causes(made) == {LoadCause.SURGE}


def test_a_larger_version_preempts_in_its_own_place() -> None:
    larger = replace(NEW, bytes=3 * GIB, priority=1)
    low = an_adapter("b", bytes=2 * GIB)
    rested, plans = run(a_snapshot(larger, low, holding(a_pod(memory=4), OLD, a_replica(low))))
    assert unloads(plans[0]) == [("b", "p1")]  # the old version goes on serving until the room is there
    assert where(rested, version="v2") == ["p1"] and where(rested, "b") == []


def test_an_update_in_its_own_place_reserves_the_room_of_the_new_version() -> None:
    larger = replace(NEW, bytes=3 * GIB, priority=1)
    low, late = an_adapter("b", bytes=2 * GIB), an_adapter("c", bytes=3 * GIB // 2)
    made = plan_for(larger, low, late, holding(a_pod(memory=4), OLD, a_replica(low)))
    assert made.assignments == {"a": ("p1",), "b": (), "c": ()}
    assert message_on(made, "p1", "c") == "needs 1.5 GiB, 1.0 GiB of 4.0 GiB is free"


def test_an_update_that_moves_reserves_no_room_on_the_pod_that_it_leaves() -> None:
    larger, other = replace(NEW, bytes=3 * GIB), an_adapter("b", bytes=3 * GIB)
    made = plan_for(larger, other, holding(a_pod("p1", memory=4), OLD), a_pod("p2", slots=1))
    assert loads(made) == [("a", "p2"), ("b", "p1")]


def test_a_victim_that_shrinks_with_its_new_version_comes_back_beside_who_took_its_room() -> None:
    smaller, high = replace(NEW, bytes=GIB), an_adapter("high", priority=1, bytes=3 * GIB)
    made = plan_for(smaller, high, holding(a_pod(memory=4), replace(OLD, bytes=3 * GIB)))
    assert unloads(made) == [("a", "p1")] and unload_causes(made) == {UnloadCause.PREEMPTED}
    assert made.assignments == {"a": ("p1",), "high": ("p1",)}


# --- failures


def test_a_failed_load_stops_the_update_before_more_old_replicas_go() -> None:
    adapter = replace(NEW, replicas=3)
    old = [holding(a_pod(f"p{i}"), OLD) for i in (2, 3)]
    made = plan_for(adapter, a_pod("p1", excluded=FAILED), *old)
    assert not made.actions and made.missing == {"a": 1}
    assert waiting_on(made, "p2") == (Reason.LOAD_FAILED, "keeps version v1: loading v2 failed on 1 pods")
    assert reason_on(made, "p1") is Reason.LOAD_FAILED


def test_a_pod_that_failed_counts_as_unavailable_after_others_have_succeeded() -> None:
    adapter = replace(NEW, replicas=4)
    done = [holding(a_pod(f"p{i}"), a_replica(NEW)) for i in (1, 2)]
    failed, old = a_pod("p3", excluded=FAILED), holding(a_pod("p4"), OLD)
    assert not plan_for(adapter, *done, failed, old).actions
    assert unloads(plan_for(adapter, *done, failed, old, policy=Policy(max_unavailable=2))) == [("a", "p4")]


def test_an_only_replica_is_not_taken_down_for_a_version_that_failed_elsewhere() -> None:
    made = plan_for(NEW, holding(a_pod("p1"), OLD), a_pod("p2", excluded=FAILED))
    assert not made.actions and waiting_on(made, "p1")[0] is Reason.LOAD_FAILED
    made = plan_for(NEW, holding(a_pod("p1"), OLD), a_pod("p2", excluded=FAILED), a_pod("p3"))
    assert loads(made) == [("a", "p3")] and not unloads(made)


def test_the_adapter_is_served_throughout_any_update_of_two_replicas() -> None:
    for side in (frozenset[str](), frozenset({"a"})):
        for slots in (1, 2):
            pods = [holding(a_pod(f"p{i}", slots=slots, side_by_side=side), OLD) for i in (1, 2)]
            snapshot = a_snapshot(replace(NEW, replicas=2), *pods)
            for _ in range(9):
                snapshot = simulate(snapshot, plan(snapshot))
                assert serving(snapshot) >= 1
            assert where(snapshot, version="v2") == where(snapshot) == ["p1", "p2"]
