"""A replica goes where its files are, where that costs nobody anything; and the disk's budget is a limit."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lora_scheduler import Adapter, Planner, Pod, Reason, explain
from tests.scheduler.builders import (
    GIB,
    a_foreigner,
    a_pod,
    a_replica,
    a_snapshot,
    an_adapter,
    holding,
    loads,
    message_on,
    plan_for,
    reason_on,
    run,
    unloads,
    where,
)

POLICIES = ("balanced", "binpack", "spread")
FILES = frozenset({("a", "v1")})
ZONE = "topology.kubernetes.io/zone"


def idle(key: str, used: int, **fields: object) -> Adapter:
    return an_adapter(key, idle_since=used, **fields)


def full_pods(**fields: object) -> tuple[list[Adapter], list[Pod]]:
    """Three full pods with one adapter each that nobody uses: that of p1 was used the longest ago, that of p3 last."""
    unused = [idle(f"i{n}", 1000 * n) for n in (1, 2, 3)]
    pods = [holding(a_pod(f"p{n}", slots=1, **fields), a_replica(one)) for n, one in enumerate(unused, 1)]
    return unused, pods


@pytest.mark.parametrize("number", range(1, 5))
def test_goes_where_its_files_are(number: int) -> None:
    pods = [a_pod(f"p{n}", stored=FILES if n == number else frozenset()) for n in range(1, 5)]
    assert loads(plan_for(an_adapter(), *pods)) == [("a", f"p{number}")]
    other = an_adapter(version="v2")
    elsewhere = loads(plan_for(other, *(a_pod(f"p{n}") for n in range(1, 5))))
    assert loads(plan_for(other, *pods)) == elsewhere, "files of another version are of no use"


def test_has_the_room_of_what_nobody_uses_where_its_files_are_rather_than_of_what_was_used_longest_ago() -> None:
    unused, pods = full_pods()
    assert unloads(plan_for(*unused, an_adapter(), *pods)) == [("i1", "p1")]
    pods[2] = replace(pods[2], stored=FILES)
    made = plan_for(*unused, an_adapter(), *pods)
    assert unloads(made) == [("i3", "p3")] and made.assignments["a"] == ("p3",)
    settled, plans = run(a_snapshot(*unused, an_adapter(), *pods))
    assert where(settled) == ["p3"] and len(plans) == 2


def test_has_that_room_rather_than_free_room_without_its_files() -> None:
    unused, pods = full_pods(stored=FILES)
    made = plan_for(*unused, an_adapter(), *pods, a_pod("p4"))
    assert unloads(made) == [("i1", "p1")], "of several pods with the files, the one unused the longest gives way"
    assert loads(plan_for(*unused, an_adapter(), *pods, a_pod("p4", stored=FILES))) == [("a", "p4")]


def test_takes_nothing_that_is_used_to_be_where_its_files_are() -> None:
    low, high = an_adapter("low", demand=1.0), an_adapter("a", priority=5, demand=1.0)
    full = holding(a_pod("p1", slots=1, stored=FILES), a_replica(low))
    assert loads(plan_for(low, high, full, a_pod("p2"))) == [("a", "p2")]
    large, unused = an_adapter(bytes=3 * GIB), idle("i", 1)
    tight = holding(a_pod("p1", memory=3, stored=FILES), a_replica(low), a_replica(unused))
    made = plan_for(low, unused, large, tight, a_pod("p2"))
    assert loads(made) == [("a", "p2")] and not unloads(made), "what is unused there would not be enough"


@pytest.mark.parametrize(
    ("pod", "selects"),
    [
        ({"ready": False}, {}),
        ({"excluded": {"a": (Reason.LOAD_FAILED, "it failed")}}, {}),
        ({"namespace": "blue"}, {"namespace": "red"}),
        ({"max_rank": 4}, {}),
    ],
)
def test_breaks_no_limit_for_its_files(pod: dict[str, object], selects: dict[str, object]) -> None:
    made = plan_for(an_adapter(**selects), a_pod("p1", stored=FILES, **pod), a_pod("p2"))
    assert loads(made) == [("a", "p2")]


def test_prefers_the_node_of_its_files_to_others() -> None:
    pods = [a_pod(f"p{n}", node=f"n{n // 2}") for n in range(6)]
    full = holding(a_pod("p9", slots=1, node="n1", stored=FILES), a_replica("b"))
    [(_, pod)] = loads(plan_for(an_adapter(), an_adapter("b"), full, *pods))
    assert pod in ("p2", "p3")
    moved = replace(full, node="n2")
    [(_, pod)] = loads(plan_for(an_adapter(), an_adapter("b"), moved, *pods))
    assert pod in ("p4", "p5")


def test_replicas_stay_as_far_apart_as_without_files() -> None:
    both = an_adapter(replicas=2, topology_key=ZONE)
    pods = [
        a_pod("p1", node_labels={ZONE: "z1"}, stored=FILES),
        a_pod("p2", node_labels={ZONE: "z1"}, stored=FILES),
        a_pod("p3", node_labels={ZONE: "z2"}),
        a_pod("p4", node_labels={ZONE: "z2"}, stored=FILES),
    ]
    made = plan_for(both, *pods)
    assert "p4" in made.assignments["a"] and len(made.assignments["a"]) == 2
    made = plan_for(both, *pods[:3])
    assert "p3" in made.assignments["a"], "another zone counts for more than its files"


@pytest.mark.parametrize("policy", POLICIES)
def test_fleets_stay_even_though_one_pod_has_all_files(policy: str) -> None:
    adapters = [an_adapter(f"a{n}", demand=1.0) for n in range(40)]
    files = frozenset((one.name, one.version) for one in adapters)
    pods = [a_pod(f"p{n}", slots=40, stored=files if n == 0 else frozenset()) for n in range(4)]
    settled, _ = run(a_snapshot(*adapters, *pods), replace(Planner().policy, name=policy, rebalance_epsilon=None))
    counts = [len(pod.residents) for pod in settled.pods]
    assert sum(counts) == 40
    if policy != "binpack":
        assert counts[0] == 15 + 1, "half above the mean, before the last one"


def test_files_do_not_move_what_is_being_updated() -> None:
    new = an_adapter(version="v2")
    there = holding(a_pod("p1", slots=1), a_replica(new, version="v1"))
    settled, _ = run(
        a_snapshot(new, there, holding(a_pod("p2", slots=1, stored=FILES), a_replica("b")), an_adapter("b"))
    )
    assert where(settled) == ["p1"]


def test_a_change_of_files_alone_changes_no_plan_and_looks_at_no_account() -> None:
    planner = Planner()
    adapters, pods = [an_adapter("a"), an_adapter("b")], [a_pod("p1"), holding(a_pod("p2"), a_replica("a"))]
    before = planner.update(adapters=adapters, pods=pods)
    assert loads(before) == [("b", "p1")]
    after = planner.update(pods=[replace(pods[1], stored=frozenset({("b", "v1")}))])
    assert loads(after) == [("b", "p2")], "what has not begun goes there"
    rested = planner.update(pods=[holding(pods[1], a_replica("b"))])
    assert not rested.actions
    assert (
        planner.update(pods=[holding(replace(pods[1], stored=FILES), a_replica("b"))]).assignments == rested.assignments
    )
    assert not planner.update(removed_pods=["p1"]).actions


def test_the_disk_of_the_agent_is_a_limit() -> None:
    one, other = an_adapter("a"), an_adapter("b")
    pod = a_pod("p1", slots=8, memory=8, disk_bytes=3 * GIB // 2)
    made = plan_for(one, other, pod)
    assert len(loads(made)) == 1 and made.missing == {"b": 1}
    assert reason_on(made, "p1", "b") is Reason.NOT_ENOUGH_DISK
    assert "0.5 GiB of 1.5 GiB is free on the disk of the pod's agent" in message_on(made, "p1", "b")
    made = plan_for(an_adapter(bytes=2 * GIB), pod)
    assert reason_on(made, "p1") is Reason.NOT_ENOUGH_DISK and "whole disk budget" in message_on(made, "p1")
    theirs = holding(pod, a_foreigner(bytes=5 * GIB))
    assert loads(plan_for(one, theirs)) == [("a", "p1")], "what somebody else has loaded is not on this disk"


def test_why_says_where_the_files_are() -> None:
    pods = [a_pod("p1", stored=FILES), a_pod("p2")]
    said = {refusal.pod: refusal for refusal in explain("a", a_snapshot(an_adapter(), *pods))}
    assert said["p1"].message == "its load starts with this plan; its files are on the pod's disk"
    assert "files" not in said["p2"].message
    cold = explain("a", a_snapshot(an_adapter(replicas=0), *pods))
    assert cold[0].reason is Reason.NOT_WANTED and cold[0].message.endswith("; its files are on the pod's disk")
