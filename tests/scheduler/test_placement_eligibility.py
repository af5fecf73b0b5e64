"""Which pods may hold an adapter, and what a user reads where they may not."""

from __future__ import annotations

import math
from typing import Any

import pytest

from lora_scheduler import (
    InvalidPolicy,
    InvalidSnapshot,
    PlacementError,
    Policy,
    Reason,
    ReplicaPolicy,
    Requirement,
    Selector,
    matches,
)
from lora_scheduler.filters import size
from tests.scheduler.builders import (
    GIB,
    a_foreigner,
    a_pod,
    a_replica,
    an_adapter,
    holding,
    loads,
    message_on,
    plan_for,
    reason_on,
    unloads,
)

REFUSALS: list[tuple[dict[str, Any], dict[str, Any], Reason, str]] = [
    (
        {"namespace": "x"},
        {"namespace": "y"},
        Reason.NAMESPACE_MISMATCH,
        "the pod is in namespace 'y', the adapter in 'x'",
    ),
    ({}, {"base_model": "qwen"}, Reason.BASE_MODEL_MISMATCH, "the pod serves 'qwen', the adapter is for 'llama'"),
    ({}, {"base_model": ""}, Reason.BASE_MODEL_UNKNOWN, "which base model the pod serves is not known"),
    (
        {},
        {"base_model": "", "ready": False, "not_ready": (Reason.POD_UNREACHABLE, "it runs with --headless")},
        Reason.BASE_MODEL_UNKNOWN,
        "which base model the pod serves is not known: it runs with --headless",
    ),
    (
        {"selector": Selector((("tier", "gold"),))},
        {"labels": {"tier": "tin"}},
        Reason.SELECTOR_MISMATCH,
        "the pod's labels do not match the selector tier=gold",
    ),
    ({}, {"ready": False}, Reason.POD_NOT_READY, "the pod is not ready"),
    ({}, {"ready": False, "held": True}, Reason.POD_NOT_READY, "the pod is not ready"),
    (
        {},
        {"ready": False, "not_ready": (Reason.POD_UNREACHABLE, "connection refused")},
        Reason.POD_UNREACHABLE,
        "connection refused",
    ),
    ({}, {"draining": True}, Reason.POD_TERMINATING, "the pod is terminating"),
    ({"rank": 64}, {}, Reason.RANK_TOO_HIGH, "rank 64 exceeds max_lora_rank 16"),
    ({"bytes": 5 * GIB}, {"memory": 4}, Reason.EXCEEDS_POD_MEMORY, "needs 5.0 GiB, the pod's whole budget is 4.0 GiB"),
    (
        {},
        {"excluded": {"a": (Reason.LOAD_FAILED, "the engine answered 500")}},
        Reason.LOAD_FAILED,
        "the engine answered 500",
    ),
    (
        {"bytes": 2 * GIB},
        {"memory": 4, "residents": (a_foreigner(bytes=7 * GIB // 2),)},
        Reason.NOT_ENOUGH_MEMORY,
        "needs 2.0 GiB, 0.5 GiB of 4.0 GiB is free",
    ),
    (
        {},
        {"memory": 4, "residents": (a_foreigner(bytes=5 * GIB),)},
        Reason.NOT_ENOUGH_MEMORY,
        "needs 1.0 GiB, 0 B of 4.0 GiB is free",
    ),
    (
        {},
        {"slots": 2, "residents": (a_foreigner("x"), a_foreigner("y"))},
        Reason.NO_FREE_SLOT,
        "2 of 2 slots are taken",
    ),
    (
        {},
        {"residents": (a_foreigner("a"),)},
        Reason.NAME_TAKEN,
        "an adapter called 'a' was loaded there by somebody else",
    ),
    ({}, {"slots": 0}, Reason.INVALID_POD_LIMITS, "host_slots (max_cpu_loras) is 0; a limit must be at least 1"),
    ({}, {"max_rank": -1}, Reason.INVALID_POD_LIMITS, "max_lora_rank is -1; a limit must be at least 1"),
    (
        {},
        {"memory": 0, "gpu_slots": 0},
        Reason.INVALID_POD_LIMITS,
        "gpu_slots (max_loras) is 0, memory_bytes is 0; a limit must be at least 1",
    ),
]


@pytest.mark.parametrize(("adapter", "pod", "reason", "message"), REFUSALS)
def test_says_why_a_pod_is_refused_with_its_numbers(
    adapter: dict[str, Any], pod: dict[str, Any], reason: Reason, message: str
) -> None:
    made = plan_for(an_adapter(**adapter), a_pod("p1", **pod))
    assert not loads(made)
    assert made.assignments["a"] == ()
    assert made.missing == {"a": 1}
    assert (reason_on(made, "p1"), message_on(made, "p1")) == (reason, message)


def test_takes_the_one_pod_that_has_nothing_against_it() -> None:
    made = plan_for(
        an_adapter(rank=16, bytes=2 * GIB, namespace="x"),
        a_pod("p1", max_rank=8),
        a_pod("p2", memory=1),
        a_pod("p3", memory=2, slots=1, max_rank=16),
    )
    assert loads(made) == [("a", "p3")]
    assert not made.refusals


def test_gives_one_reason_for_every_pod_if_replicas_are_missing() -> None:
    made = plan_for(an_adapter(replicas=2), a_pod("p2"), a_pod("p1", base_model="qwen"))
    assert [(refusal.pod, refusal.reason) for refusal in made.refusals["a"]] == [
        ("p1", Reason.BASE_MODEL_MISMATCH),
        ("p2", Reason.ALREADY_PLACED),
    ]
    assert made.missing == {"a": 1}


def test_two_adapters_of_one_name_do_not_share_a_pod() -> None:
    made = plan_for(an_adapter("a", name="same"), an_adapter("b", name="same"), a_pod("p1"), a_pod("p2"))
    assert {pod for _, pod in loads(made)} == {"p1", "p2"}
    made = plan_for(an_adapter("a", name="same"), an_adapter("b", name="same"), a_pod("p1"))
    assert message_on(made, "p1", "b") == "the name 'same' belongs to adapter 'a' there"


def test_a_shared_name_stays_with_whom_it_belongs_when_the_other_leaves() -> None:
    first, second = an_adapter("a", name="same", replicas=0), an_adapter("b", name="same")
    pod = holding(a_pod(), a_replica(first, name="same--1"), a_replica(second, name="same--2"))
    assert unloads(plan_for(first, second, pod)) == [("same--1", "p1")]
    other = holding(a_pod(), a_replica(second, name="same--2"), a_replica(first, name="same--1"))
    assert unloads(plan_for(an_adapter("a", name="same"), an_adapter("b", name="same", replicas=0), other)) == [
        ("same--2", "p1")
    ]


def test_a_name_that_an_unwanted_resident_still_has_is_waited_for() -> None:
    made = plan_for(an_adapter("new", name="a"), holding(a_pod(), a_replica(an_adapter("gone", name="a"))))
    assert unloads(made) == [("a", "p1")] and not loads(made)
    assert made.waiting[0][1].reason is Reason.WAITING_FOR_ROOM


def test_a_versioned_name_that_an_unwanted_resident_still_has_is_waited_for() -> None:
    orphan = a_replica(an_adapter("gone", name="a"), name="a--v1", adapter=None)
    made = plan_for(an_adapter("new", name="a"), holding(a_pod(side_by_side=frozenset({"new"})), orphan))
    assert unloads(made) == [("a--v1", "p1")] and not loads(made)


@pytest.mark.parametrize(
    ("selector", "labels", "selected"),
    [
        (Selector(), {}, True),
        (Selector((("a", "1"), ("b", "2"))), {"a": "1", "b": "2", "c": "3"}, True),
        (Selector((("a", "1"), ("b", "2"))), {"a": "1"}, False),
        (Selector(match_expressions=(Requirement("a", "In", ("1", "2")),)), {"a": "2"}, True),
        (Selector(match_expressions=(Requirement("a", "In", ("1", "2")),)), {"a": "3"}, False),
        (Selector(match_expressions=(Requirement("a", "In", ("1",)),)), {}, False),
        (Selector(match_expressions=(Requirement("a", "NotIn", ("1",)),)), {"a": "1"}, False),
        (Selector(match_expressions=(Requirement("a", "NotIn", ("1",)),)), {"a": "2"}, True),
        (Selector(match_expressions=(Requirement("a", "NotIn", ("1",)),)), {}, True),
        (Selector(match_expressions=(Requirement("a", "Exists"),)), {"a": ""}, True),
        (Selector(match_expressions=(Requirement("a", "Exists"),)), {}, False),
        (Selector(match_expressions=(Requirement("a", "DoesNotExist"),)), {}, True),
        (Selector(match_expressions=(Requirement("a", "DoesNotExist"),)), {"a": "1"}, False),
        (Selector((("a", "1"),), (Requirement("b", "Exists"),)), {"a": "1"}, False),
    ],
)
def test_selects_labels_as_kubernetes_does(selector: Selector, labels: dict[str, str], selected: bool) -> None:
    assert matches(selector, labels) is selected


def test_an_unknown_selector_operator_is_an_error_and_not_a_mismatch() -> None:
    with pytest.raises(ValueError, match="'Near' does not exist; use one of DoesNotExist, Exists, In, NotIn"):
        matches(Selector(match_expressions=(Requirement("a", "Near"),)), {})


def test_writes_selectors_as_kubectl_does() -> None:
    selector = Selector(
        (("a", "1"),),
        (
            Requirement("b", "In", ("x", "y")),
            Requirement("c", "NotIn", ("z",)),
            Requirement("d", "Exists"),
            Requirement("e", "DoesNotExist"),
        ),
    )
    made = plan_for(an_adapter(selector=selector), a_pod())
    assert message_on(made, "p1").endswith("selector a=1,b in (x,y),c notin (z),d,!e")


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1 << 10, "1.0 KiB"),
        (5 << 20, "5.0 MiB"),
        (GIB // 2, "0.5 GiB"),
        (2 * GIB, "2.0 GiB"),
    ],
)
def test_writes_bytes_for_people(count: int, text: str) -> None:
    assert size(count) == text


@pytest.mark.parametrize(
    ("objects", "message"),
    [
        ((an_adapter("a"), an_adapter("a")), "adapter 'a' is in the snapshot twice"),
        ((a_pod("p"), a_pod("p")), "pod 'p' is in the snapshot twice"),
        ((an_adapter(bytes=-1),), "adapter 'a' has bytes -1"),
        ((an_adapter(rank=-1),), "adapter 'a' has rank -1"),
        ((an_adapter(replicas=-1),), "adapter 'a' has replicas -1"),
        ((an_adapter(max_replicas=-1),), "adapter 'a' has max_replicas -1"),
        ((an_adapter(bytes=1.5),), "adapter 'a' has bytes 1.5; use a whole number"),
        ((an_adapter(priority=math.nan),), "adapter 'a' has priority nan; use a whole number"),
        ((a_pod(memory_bytes=math.nan),), "pod 'p1' has memory_bytes nan; use a whole number"),
        ((holding(a_pod(), a_foreigner(bytes=math.inf)),), "resident 'theirs' of pod 'p1' has inf bytes"),
        ((an_adapter(demand=math.nan),), "adapter 'a' has demand nan"),
        ((an_adapter(demand=-0.5),), "adapter 'a' has demand -0.5"),
        (
            (an_adapter(selector=Selector(match_expressions=(Requirement("x", "Near"),))),),
            "the selector of adapter 'a' has the operator 'Near'",
        ),
        ((holding(a_pod(), a_foreigner(bytes=-1)),), "resident 'theirs' of pod 'p1' has -1 bytes"),
        ((holding(a_pod(), a_foreigner(rank=-1)),), "resident 'theirs' of pod 'p1' has 1073741824 bytes and rank -1"),
    ],
)
def test_a_snapshot_that_contradicts_itself_is_refused_by_name(objects: tuple[Any, ...], message: str) -> None:
    with pytest.raises(InvalidSnapshot, match=message) as caught:
        plan_for(*objects)
    assert isinstance(caught.value, PlacementError) and isinstance(caught.value, ValueError)


def test_a_policy_that_does_not_exist_is_refused() -> None:
    with pytest.raises(InvalidPolicy, match="'fastest' does not exist; use one of balanced, binpack, spread"):
        plan_for(policy=Policy("fastest"))
    with pytest.raises(InvalidPolicy, match="max_unavailable is 0"):
        plan_for(policy=Policy(max_unavailable=0))
    for policy, message in (
        (Policy(rebalance_epsilon=-0.1), "rebalance_epsilon is -0.1; use 0.1"),
        (Policy(rebalance_epsilon=float("nan")), "rebalance_epsilon is nan"),
        (Policy(max_moves=-1), "max_moves is -1; use 0 or more"),
        (Policy(demand_half_life=-1.0), "demand_half_life is -1.0; use seconds"),
        (Policy(hot_share=0.0), "hot_share is 0.0; use a part"),
        (Policy(hot_share=float("inf")), "hot_share is inf"),
    ):
        with pytest.raises(InvalidPolicy, match=message):
            plan_for(policy=policy)


def test_an_empty_fleet_and_an_empty_wish_are_no_error() -> None:
    assert plan_for().actions == ()
    assert plan_for(a_pod()).actions == ()
    assert plan_for(an_adapter(replica_policy=ReplicaPolicy.ALL_PODS)).missing == {"a": 1}
