"""Values that make no sense are refused by a typed error that names the object, whatever they are."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from lora_scheduler import InvalidPolicy, InvalidSnapshot, Planner, Policy, Reason, plan
from tests.scheduler.builders import a_foreigner, a_pod, a_replica, a_snapshot, an_adapter, holding

HUGE = 10**400


@pytest.mark.parametrize(
    "fields",
    [
        {"preemption": "LowerPriority"},
        {"replica_policy": "AllPods"},
        {"selector": None},
        {"demand": "7"},
        {"demand": HUGE},
        {"demand": float("nan")},
        {"priority": "high"},
        {"priority": -(1 << 62)},
        {"priority": 1 << 62},
        {"idle_since": "yesterday"},
        {"age_rank": None},
        {"replicas": 1.5},
        {"bytes": "1Gi"},
        {"name": ""},
        {"name": "a\ud800"},
        {"name": None},
    ],
)
def test_an_adapter_with_a_value_of_a_wrong_kind_is_refused_by_name(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidSnapshot, match=r"adapter 'a'"):
        plan(a_snapshot(an_adapter("a", **fields), a_pod()))


@pytest.mark.parametrize("key", ["", "\udfff", None, 7])
def test_a_key_that_cannot_be_one_is_refused(key: Any) -> None:
    for wrong in (a_snapshot(an_adapter(key, name="a")), a_snapshot(a_pod(key))):
        with pytest.raises(InvalidSnapshot, match="key"):
            plan(wrong)
        with pytest.raises(InvalidSnapshot, match="key"):
            Planner().plan(wrong)


def test_an_empty_key_does_not_adopt_what_nobody_wants() -> None:
    orphan = a_foreigner("lost", owned=True)
    with pytest.raises(InvalidSnapshot):
        plan(a_snapshot(an_adapter("", name="lost"), holding(a_pod(), orphan)))


@pytest.mark.parametrize("name", ["é", "模型", "a b"])
def test_any_text_that_can_be_written_is_a_key(name: str) -> None:
    assert plan(a_snapshot(an_adapter(name), a_pod())).assignments == {name: ("p1",)}


@pytest.mark.parametrize(
    "pod",
    [
        holding(a_pod(), a_replica(state="Loaded")),
        a_pod(ready=False, not_ready=("PodNotReady", "starts")),
        a_pod(excluded={"a": ("LoadFailed", "no")}),
        a_pod(excluded={"a": (Reason.LOAD_FAILED, "no"), "b": (None, "")}),
        a_pod(slots=None),
    ],
)
def test_a_pod_with_a_value_of_a_wrong_kind_is_refused_by_name(pod: Any) -> None:
    with pytest.raises(InvalidSnapshot, match="pod 'p1'"):
        plan(a_snapshot(an_adapter("a"), pod))


@pytest.mark.parametrize(
    "fields",
    [
        {"max_unavailable": float("nan")},
        {"max_unavailable": "1"},
        {"max_surge": -1},
        {"max_surge": None},
        {"max_moves": 1.5},
        {"max_moves": "2"},
        {"rebalance_epsilon": "0.1"},
        {"rebalance_epsilon": HUGE},
        {"demand_half_life": None},
        {"hot_share": 0},
        {"hot_share": "half"},
    ],
)
def test_a_policy_with_a_value_of_a_wrong_kind_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidPolicy, match=next(iter(fields))):
        Planner(replace(Policy(), **fields))
