"""How many replicas Auto asks for: as demand goes, at once up and only clearly down, and never to and fro."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lora_scheduler import (
    Adapter,
    LoadCause,
    Planner,
    Pod,
    Policy,
    PreemptionPolicy,
    ReplicaPolicy,
    Selector,
    Snapshot,
    UnloadCause,
    plan,
)
from tests.scheduler.builders import (
    a_pod,
    a_replica,
    a_snapshot,
    an_adapter,
    holding,
    load_causes,
    run,
    unload_causes,
    unloads,
    where,
)

AUTO = ReplicaPolicy.AUTO
UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def auto(demand: float | None, **fields: Any) -> Adapter:
    return an_adapter("a", replica_policy=AUTO, demand=demand, **fields)


def rest_of(demand: float) -> Adapter:
    """Keeps the mean load where a test wants it."""
    return an_adapter("rest", demand=demand, replicas=4)


def fleet(count: int = 4, replicas: int = 0) -> list[Pod]:
    pods = [a_pod(f"p{i}", slots=9) for i in range(count)]
    return [holding(pod, a_replica()) if i < replicas else pod for i, pod in enumerate(pods)]


def replicas(
    adapter: Adapter, *, mean: float = 10.0, pods: int = 4, present: int = 0, policy: Policy | None = None
) -> int:
    rest = rest_of(mean * pods - (adapter.demand or 0))
    made = plan(a_snapshot(adapter, rest, *fleet(pods, present)), policy or Policy())
    return len(made.assignments["a"])


@pytest.mark.parametrize(
    ("demand", "expected"), [(None, 1), (0.0, 1), (4.9, 1), (5.1, 2), (9.9, 2), (12.0, 3), (39.0, 4)]
)
def test_no_replica_carries_more_than_half_of_a_pods_mean_load(demand: float | None, expected: int) -> None:
    assert replicas(auto(demand)) == expected


def test_the_number_stays_between_replicas_and_the_maximum() -> None:
    assert replicas(auto(0.1, replicas=2)) == 2
    assert replicas(auto(39.0, max_replicas=2)) == 2
    assert replicas(auto(39.0, replicas=3, max_replicas=2)) == 2
    assert replicas(auto(39.0, replicas=0)) == 0


def test_how_hot_is_too_hot_can_be_chosen() -> None:
    assert replicas(auto(9.9), policy=Policy(hot_share=1.0)) == 1
    assert replicas(auto(9.9), policy=Policy(hot_share=0.25)) == 4


@pytest.mark.parametrize(
    ("demand", "present", "expected"), [(9.0, 3, 3), (6.5, 3, 2), (9.0, 1, 2), (3.6, 2, 2), (3.4, 2, 1)]
)
def test_replicas_go_only_when_the_others_would_clearly_do(demand: float, present: int, expected: int) -> None:
    assert replicas(auto(demand), present=present) == expected


def test_without_known_demand_there_are_as_many_as_replicas_says() -> None:
    made = plan(a_snapshot(auto(None, replicas=2), *fleet()))
    assert len(made.assignments["a"]) == 2
    assert len(plan(a_snapshot(auto(3.0), a_pod("p1", ready=False))).assignments["a"]) == 0


def test_replicas_beyond_replicas_are_welcome_and_not_missed() -> None:
    low = an_adapter("low", demand=1.0)
    full = [holding(a_pod(f"p{i}", slots=1), a_replica(replace(low, key=f"l{i}", name=f"l{i}"))) for i in range(3)]
    lows = [replace(low, key=f"l{i}", name=f"l{i}") for i in range(3)]
    made = plan(a_snapshot(auto(30.0, priority=5), *lows, *full, a_pod("p9", slots=1)))
    assert made.assignments["a"] == ("p9",) and not made.missing and not unloads(made)


def test_where_room_is_scarce_further_replicas_wait_until_all_others_have_theirs() -> None:
    others = [an_adapter(f"o{i}", demand=1.0) for i in range(3)]
    made = plan(a_snapshot(auto(30.0), *others, *(a_pod(f"p{i}", slots=1) for i in range(4))))
    assert not made.missing
    made = plan(a_snapshot(auto(30.0), *others[:2], *(a_pod(f"p{i}", slots=1) for i in range(4))))
    assert len(made.assignments["a"]) == 2 and not made.missing


def test_growth_loads_and_shrinking_unloads() -> None:
    rested, _ = run(a_snapshot(auto(4.0), rest_of(36.0), *fleet()))
    grown = replace(rested, adapters=(auto(12.0), rest_of(28.0)))
    assert load_causes(plan(grown)) == {LoadCause.MISSING}
    rested, _ = run(grown)
    assert len(where(rested)) == 3
    rested, _ = run(replace(rested, adapters=(auto(1.0), rest_of(39.0))))
    assert len(where(rested)) == 1


@settings(UNHURRIED, max_examples=60)
@given(
    demands=st.lists(st.just(0.0) | st.floats(0.001, 100), min_size=1, max_size=6),
    pods=st.integers(1, 6),
    before=st.lists(st.floats(0, 100), min_size=6, max_size=6),
)
def test_at_a_fixed_demand_the_number_of_replicas_comes_to_rest(
    demands: list[float], pods: int, before: list[float]
) -> None:
    """From whatever was there before; `run` fails where the plans go on for ever."""

    def snapshot(values: list[float]) -> Snapshot:
        adapters = [an_adapter(f"a{i}", replica_policy=AUTO, demand=v) for i, v in enumerate(values[: len(demands)])]
        return a_snapshot(*adapters, *(a_pod(f"p{i}", slots=9) for i in range(pods)))

    rested, _ = run(snapshot(before))
    rested, _ = run(replace(rested, adapters=snapshot(demands).adapters))
    held = {a.key: len(where(rested, a.key)) for a in rested.adapters}
    limit = 0.5 * sum(demands) / pods * (1 + 1 / 32)
    for adapter in rested.adapters:
        assert 1 <= held[adapter.key] <= pods
        if held[adapter.key] < pods:
            assert (adapter.demand or 0) / held[adapter.key] <= limit * (1 + 1e-9)


def test_a_lasting_planner_follows_the_demand_of_others_too() -> None:
    adapter, pods = auto(6.0), fleet()
    planner = Planner()
    planner.plan(a_snapshot(adapter, rest_of(34.0), *pods))
    for rest in (2.0, 90.0, 34.0):
        snapshot = a_snapshot(adapter, rest_of(rest), *pods)
        assert planner.plan(snapshot) == plan(snapshot)
    assert planner.update(removed_adapters={"rest"}) == plan(a_snapshot(adapter, *pods))


# --- spare replicas


def hot_on(count: int, **fields: Any) -> tuple[Adapter, list[Pod]]:
    """An adapter with one more replica than it has to have on each pod but one, all of which are full."""
    hot = auto(100.0, **fields)
    return hot, [holding(a_pod(f"p{i}", slots=1), a_replica(hot)) for i in range(count)]


@pytest.mark.parametrize(("fields", "served"), [({}, True), ({"priority": 1}, True), ({"priority": -1}, False)])
def test_a_replica_beyond_replicas_gives_way_to_who_lacks_one(fields: dict[str, Any], served: bool) -> None:
    hot, pods = hot_on(2)
    made = plan(a_snapshot(hot, an_adapter("b", demand=1.0, **fields), *pods))
    assert bool(made.assignments["b"]) is served and len(made.assignments["a"]) == 2 - served
    assert unload_causes(made) == ({UnloadCause.PREEMPTED} if served else set())


def test_who_never_preempts_leaves_replicas_beyond_replicas_alone() -> None:
    hot, pods = hot_on(2)
    made = plan(a_snapshot(hot, an_adapter("b", preemption=PreemptionPolicy.NONE), *pods))
    assert made.missing == {"b": 1} and not made.actions


def test_no_more_replicas_give_way_than_are_spare() -> None:
    hot, pods = hot_on(2)
    made = plan(a_snapshot(hot, an_adapter("b", replicas=2, demand=1.0), *pods))
    assert made.missing == {"b": 1} and len(made.assignments["a"]) == 1


def test_a_spare_replica_goes_before_one_of_a_lower_priority() -> None:
    hot = auto(100.0)
    low = an_adapter("low", priority=-5)
    pods = holding(a_pod("p1", slots=1), a_replica(hot)), holding(a_pod("p2", slots=2), a_replica(hot), a_replica(low))
    made = plan(a_snapshot(hot, low, an_adapter("b"), *pods))
    assert not made.missing and len(made.assignments["low"]) == 1


def test_a_spare_replica_does_not_come_back_to_where_another_is_needed() -> None:
    """Only one pod will do for the other one, and it is the one that the hot one would choose."""
    hot = auto(100.0)
    picky = an_adapter("b", demand=1.0, selector=Selector((("only", "this"),)))
    busy = an_adapter("busy", demand=200.0)
    pods = [a_pod("p0", slots=1, labels={"only": "this"}), *(a_pod(f"p{i}", slots=9) for i in (1, 2))]
    pods[0] = holding(pods[0], a_replica(hot))
    pods[1] = holding(pods[1], a_replica(hot), a_replica(busy))
    rested, plans = run(a_snapshot(hot, picky, busy, *pods))
    assert where(rested, "b") == ["p0"] and len(plans) <= 4
