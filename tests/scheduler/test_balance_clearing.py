"""An adapter that fits nowhere gets its place by moving one that serves: the new copy first, then the old one goes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lora_scheduler import Adapter, LoadCause, Pod, Policy, ReplicaPolicy, plan
from tests.scheduler.builders import (
    LOADING,
    UNLOADING,
    a_copy,
    a_pod,
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

LOW, HIGH = an_adapter("low"), an_adapter("high", rank=32)


def only(state: object = None) -> Pod:
    """The only pod that serves the high rank, with its only slot taken."""
    return holding(a_pod("p1", slots=1, max_rank=64), a_copy(LOW))


def test_a_copy_that_serves_moves_away_before_the_other_adapter_comes() -> None:
    made = plan_for(LOW, HIGH, only(), a_pod("p2"))
    assert loads(made) == [("low", "p2")] and load_causes(made) == {LoadCause.MOVE} and not unloads(made)
    assert made.missing == {"high": 1}
    arriving = holding(a_pod("p2"), a_copy(LOW, state=LOADING))
    made = plan_for(LOW, HIGH, only(), arriving)
    assert not made.actions and made.assignments["low"] == ("p2",)
    made = plan_for(LOW, HIGH, only(), holding(a_pod("p2"), a_copy(LOW)))
    assert unloads(made) == [("low", "p1")] and made.assignments["low"] == ("p2",)
    left = holding(a_pod("p1", slots=1, max_rank=64), a_copy(LOW, state=UNLOADING))
    made = plan_for(LOW, HIGH, left, holding(a_pod("p2"), a_copy(LOW)))
    assert made.assignments == {"high": ("p1",), "low": ("p2",)}


def test_a_move_away_from_a_busy_pod_is_waited_for() -> None:
    steady = an_adapter("steady", rank=32, demand=9.0)
    full = holding(a_pod("p1", slots=2, max_rank=64), a_copy(LOW), a_copy(steady))
    arriving = holding(a_pod("p2"), a_copy(LOW, state=LOADING))
    made = plan_for(LOW, HIGH, steady, full, arriving, a_pod("p3"))
    assert not made.actions and made.assignments["low"] == ("p2",) and made.missing == {"high": 1}


@pytest.mark.parametrize("demand", [None, 0.0, 5.0])
@pytest.mark.parametrize("busy", [0.0, 99.0])
def test_it_comes_to_rest_whatever_the_loads_are(demand: float | None, busy: float) -> None:
    low, beside = replace(LOW, demand=demand), an_adapter("busy", demand=busy)
    snapshot = a_snapshot(low, HIGH, beside, only(), holding(a_pod("p2"), a_copy(beside)))
    rested, _ = run(snapshot)
    assert (where(rested, "low"), where(rested, "high")) == (["p2"], ["p1"])


@pytest.mark.parametrize(
    "other",
    [
        a_pod("p2", slots=1, residents=(a_copy("x", adapter="x", owned=False),)),
        a_pod("p2", max_rank=4),
        a_pod("p2", base_model="qwen"),
    ],
)
def test_without_room_elsewhere_everything_stays(other: Pod) -> None:
    made = plan_for(LOW, HIGH, only(), other)
    assert not made.actions and made.missing == {"high": 1}


@pytest.mark.parametrize("low", [replace(LOW, replica_policy=ReplicaPolicy.ALL_PODS), replace(LOW, version="v2")])
def test_what_is_not_at_rest_is_not_moved(low: Adapter) -> None:
    made = plan_for(low, HIGH, only(), a_pod("p2", max_rank=4))
    assert made.missing["high"] == 1 and not loads(made)


def test_one_move_would_have_to_be_enough() -> None:
    low = [an_adapter(f"l{i}") for i in range(2)]
    large = an_adapter("large", bytes=2 * (1 << 30))
    full = holding(a_pod("p1", slots=4, memory=2), *map(a_copy, low))
    made = plan_for(*low, large, full, a_pod("p2", memory=1))
    assert not made.actions and made.missing == {"large": 1}


def test_such_moves_count_against_the_budget() -> None:
    assert not plan_for(LOW, HIGH, only(), a_pod("p2"), policy=Policy(max_moves=0)).actions
    lows = [an_adapter(f"l{i}") for i in range(3)]
    highs = [an_adapter(f"h{i}", rank=32) for i in range(3)]
    pods = [holding(a_pod(f"p{i}", slots=1, max_rank=64), a_copy(low)) for i, low in enumerate(lows)]
    made = plan_for(*lows, *highs, *pods, a_pod("p9", slots=9))
    assert len(loads(made)) == 2
    rested, _ = run(a_snapshot(*lows, *highs, *pods, a_pod("p9", slots=9)))
    assert all(where(rested, one.key) for one in (*lows, *highs))


def test_after_some_adapters_in_vain_no_more_are_tried() -> None:
    highs = [an_adapter(f"h{i}", rank=32, bytes=(9 - i) << 30) for i in range(6)]
    pods = only(), a_pod("p2", slots=1, residents=(a_copy("x", owned=False, adapter=None),))
    assert not plan(a_snapshot(LOW, *highs, *pods)).actions
