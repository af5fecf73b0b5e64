"""One answer at a time: explain, simulate, and the small interface."""

from __future__ import annotations

import pytest

from lora_scheduler import (
    PreemptionPolicy,
    Reason,
    Refusal,
    ResidentState,
    UnknownAdapter,
    explain,
    get_adapter_status,
    get_pod_adapters,
    plan,
    schedule_adapter,
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
    plan_for,
)


def test_explains_every_pod_of_a_complete_adapter() -> None:
    busy = an_adapter("b", replicas=0)
    snapshot = a_snapshot(
        an_adapter(replicas=3),
        busy,
        holding(a_pod("p1"), a_replica()),
        holding(a_pod("p2"), a_replica(state=LOADING)),
        holding(a_pod("p3", ready=False, held=True), a_replica()),
        a_pod("p4"),
        a_pod("p5", max_rank=4),
    )
    assert explain("a", snapshot) == (
        Refusal("p1", Reason.ALREADY_PLACED, "a replica is there"),
        Refusal("p2", Reason.ALREADY_PLACED, "a replica is being loaded there"),
        Refusal("p3", Reason.ALREADY_PLACED, "a replica is there"),
        Refusal("p4", Reason.NOT_WANTED, "3 replicas have a place, no more are wanted"),
        Refusal("p5", Reason.RANK_TOO_HIGH, "rank 8 exceeds max_lora_rank 4"),
    )
    assert Refusal("p4", Reason.NOT_WANTED, "no replica is wanted now") in explain("b", snapshot)


def test_explains_what_is_about_to_happen() -> None:
    assert explain("a", a_snapshot(an_adapter(), a_pod())) == (
        Refusal("p1", Reason.ALREADY_PLACED, "its load starts with this plan"),
    )
    waiting = a_snapshot(an_adapter(), holding(a_pod(slots=1), a_replica("x", state=UNLOADING)))
    assert explain("a", waiting)[0].reason is Reason.WAITING_FOR_ROOM
    surplus = a_snapshot(an_adapter(), holding(a_pod("p1"), a_replica()), holding(a_pod("p2"), a_replica()))
    assert sorted(refusal.message for refusal in explain("a", surplus)) == [
        "a replica is there",
        "its replica there goes, 1 other is enough",
    ]
    update = a_snapshot(an_adapter(version="v2"), holding(a_pod(), a_replica()))
    assert explain("a", update)[0].message == "a replica of another version is there: version v1 has to leave first"


def test_explains_room_that_only_the_next_plan_can_use() -> None:
    low = an_adapter("low", bytes=4 * GIB)
    # `meek` is exchanging a version on p1 when `high` frees more of p2 than it needs
    meek = an_adapter("meek", version="v2", replicas=2, priority=3, preemption=PreemptionPolicy.NONE)
    high = an_adapter("high", priority=2, rank=32, bytes=2 * GIB)
    snapshot = a_snapshot(
        low,
        meek,
        high,
        holding(a_pod("p1", slots=1), a_replica(meek, version="v1")),
        holding(a_pod("p2", memory=4, max_rank=64), a_replica(low)),
    )
    made = plan(snapshot)
    assert made.missing["meek"] == 1
    assert [r.reason for r in explain("meek", snapshot)] == [Reason.ALREADY_PLACED, Reason.WAITING_FOR_ROOM]


def test_explaining_an_adapter_that_is_not_there_is_an_error() -> None:
    with pytest.raises(UnknownAdapter, match="adapter 'x' is not in the snapshot; ask for one of its 1"):
        explain("x", a_snapshot(an_adapter()))
    with pytest.raises(UnknownAdapter, match="adapter 'x' is not in the snapshot"):
        get_adapter_status("x", a_snapshot(an_adapter()))


def test_simulates_the_actions_and_leaves_what_is_under_way() -> None:
    snapshot = a_snapshot(
        an_adapter(),
        an_adapter("b"),
        holding(
            a_pod(), a_replica("gone"), a_replica("b", state=LOADING), a_replica("old", adapter="old", state=UNLOADING)
        ),
    )
    (pod,) = simulate(snapshot, plan(snapshot)).pods
    assert [(r.name, r.state.value) for r in pod.residents] == [("a", "Loaded"), ("b", "Loading"), ("old", "Unloading")]
    (pod,) = simulate(snapshot, plan(snapshot), settle=True).pods
    assert [(r.name, r.state.value) for r in pod.residents] == [("a", "Loaded"), ("b", "Loaded")]


def test_a_plan_for_another_fleet_is_not_simulated() -> None:
    with pytest.raises(UnknownAdapter, match="'a' is not in the snapshot; give the one that the plan was made for"):
        simulate(a_snapshot(a_pod()), plan_for(an_adapter(), a_pod()))


def test_simulates_engine_names_by_version_where_they_are_used() -> None:
    snapshot = a_snapshot(an_adapter(), a_pod(side_by_side=frozenset({"a"})))
    assert simulate(snapshot, plan(snapshot)).pods[0].residents == (a_replica(name="a--v1"),)


def test_schedules_one_adapter_beside_what_is_there() -> None:
    full = holding(a_pod("p1", slots=1), a_replica("b"))
    answer = schedule_adapter(an_adapter(priority=9, replicas=2), [full, a_pod("p2")])
    assert answer.pods == ("p2",) and answer.missing == 1
    assert answer.refusals[0] == Refusal("p1", Reason.NO_FREE_SLOT, "1 of 1 slots are taken")
    there = schedule_adapter(an_adapter(), [holding(a_pod("p1"), a_replica()), a_pod("p2")])
    assert there.pods == ("p1",) and there.missing == 0 and there.refusals == ()


def test_tells_where_an_adapter_is_and_how_far() -> None:
    snapshot = a_snapshot(
        an_adapter(version="v2", replicas=5),
        holding(a_pod("p1"), a_replica(version="v2")),
        holding(a_pod("p2"), a_replica(version="v2", state=LOADING)),
        holding(a_pod("p3"), a_replica(version="v1"), a_replica("b")),
        holding(a_pod("p4", slots=1), a_replica(version="v2", state=UNLOADING)),
        holding(a_pod("p5", slots=1), a_foreigner("a")),
    )
    status = get_adapter_status("a", snapshot)
    assert (status.loaded, status.loading, status.outdated) == (("p1",), ("p2",), ("p3",))
    assert status.assigned == ("p1", "p2", "p3", "p4") and status.missing == 1
    assert {load.pod for load, _ in status.waiting} == {"p3", "p4"}
    assert status.refusals[4].reason is Reason.NAME_TAKEN


def test_tells_which_adapters_a_pod_has() -> None:
    pod = holding(
        a_pod(),
        a_replica("b"),
        a_replica("a", state=LOADING),
        a_replica("c", state=UNLOADING),
        a_replica("d", adapter=None),
        a_foreigner(),
    )
    assert get_pod_adapters(pod) == ("a", "b")
    assert ResidentState.LOADED is pod.residents[0].state
