"""Whose replicas make room for whom: never an equal priority, and never more or higher ones than there must be."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from lora_scheduler import (
    Adapter,
    LoadCause,
    Plan,
    PreemptionPolicy,
    Reason,
    ReplicaPolicy,
    Selector,
    Unload,
    UnloadCause,
    plan,
)
from lora_scheduler.preemption import victims
from tests.scheduler.builders import (
    GIB,
    LOADING,
    a_foreigner,
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

NEVER = PreemptionPolicy.NONE


def test_a_higher_priority_takes_the_room_of_a_lower_one() -> None:
    low, high = an_adapter("low"), an_adapter("high", priority=1)
    made = plan_for(low, high, holding(a_pod(slots=1), a_replica(low)))
    assert unloads(made) == [("low", "p1")] and unload_causes(made) == {UnloadCause.PREEMPTED}
    assert made.assignments == {"high": ("p1",), "low": ()}
    assert next(a.on_behalf_of for a in made.actions if isinstance(a, Unload)) == "high"
    load, refusal = made.waiting[0]  # the load is in the next plan: nothing counts on an unload of this one
    assert (load.adapter, load.cause, refusal.reason) == ("high", LoadCause.MISSING, Reason.WAITING_FOR_ROOM)
    assert reason_on(made, "p1", "low") is Reason.NO_FREE_SLOT


@pytest.mark.parametrize(
    ("priority", "policy"), [(0, PreemptionPolicy.LOWER_PRIORITY), (-1, PreemptionPolicy.LOWER_PRIORITY), (9, NEVER)]
)
def test_an_equal_priority_is_never_preempted_and_nobody_by_a_policy_of_none(
    priority: int, policy: PreemptionPolicy
) -> None:
    low = an_adapter("low")
    late = an_adapter("late", priority=priority, preemption=policy)
    made = plan_for(low, late, an_adapter("x", priority=-9), holding(a_pod(slots=1), a_replica(low)))
    assert not made.actions
    assert message_on(made, "p1", "late") == "1 of 1 slots are taken"


def test_who_never_preempts_can_be_preempted() -> None:
    meek = an_adapter("meek", preemption=NEVER)
    made = plan_for(meek, an_adapter("high", priority=1), holding(a_pod(slots=1), a_replica(meek)))
    assert unloads(made) == [("meek", "p1")]


def test_free_room_is_taken_before_anybody_is_preempted() -> None:
    low, high = an_adapter("low"), an_adapter("high", priority=1)
    made = plan_for(low, high, holding(a_pod("p1", slots=1), a_replica(low)), a_pod("p2", slots=1))
    assert loads(made) == [("high", "p2")] and not unloads(made)


def test_the_preempted_look_for_room_elsewhere_in_the_same_plan() -> None:
    low, high = an_adapter("low"), an_adapter("high", priority=1, rank=32)
    made = plan_for(low, high, holding(a_pod("p1", slots=1, max_rank=64), a_replica(low)), a_pod("p2", slots=1))
    assert made.assignments == {"high": ("p1",), "low": ("p2",)}
    assert loads(made) == [("low", "p2")] and unloads(made) == [("low", "p1")]


def test_preemption_goes_down_the_priorities_and_comes_to_rest() -> None:
    adapters = [an_adapter(f"a{i}", priority=i) for i in range(4)]
    pods = [holding(a_pod(f"p{i}", slots=1, memory=2), a_replica(adapters[i])) for i in range(3)]
    rested, plans = run(a_snapshot(*adapters, *pods))
    assert len(plans) == 2
    assert where(rested, "a0") == [] and all(where(rested, f"a{i}") for i in (1, 2, 3))


def test_fewest_victims_are_the_largest_ones_of_the_lowest_priority() -> None:
    sizes = {"a": (1, 0), "b": (1, 0), "c": (2, 0), "d": (4, 1)}
    adapters = {key: an_adapter(key, bytes=n * GIB, priority=p) for key, (n, p) in sizes.items()}
    pod = holding(a_pod(slots=9, memory=8), *(a_replica(adapter) for adapter in adapters.values()))
    made = plan_for(*adapters.values(), an_adapter("high", bytes=2 * GIB, priority=5), pod)
    assert unloads(made) == [("c", "p1")]
    made = plan_for(*adapters.values(), an_adapter("high", bytes=3 * GIB, priority=5), pod)
    assert len(unloads(made)) == 2 and ("c", "p1") in unloads(made)
    made = plan_for(*adapters.values(), an_adapter("high", bytes=5 * GIB, priority=5), pod)
    assert ("d", "p1") in unloads(made)


def test_of_equal_victims_one_with_another_replica_goes_then_one_that_does_not_serve_then_the_younger() -> None:
    def victim(*adapters: Adapter, arriving: str = "") -> list[tuple[str, str]]:
        replicas = [a_replica(a, state=LOADING) if a.key == arriving else a_replica(a) for a in adapters]
        high = an_adapter("high", priority=5, rank=32)
        there = holding(a_pod("p1", slots=2, max_rank=64), *replicas)
        made = plan_for(*adapters, high, there, holding(a_pod("p2", slots=1), a_replica(adapters[0])))
        return [(key, pod) for key, pods in made.assignments.items() for pod in pods if pod == "p1"]

    twice, once = an_adapter("a", replicas=2), an_adapter("b", age_rank=7)
    assert ("b", "p1") in victim(twice, once)
    assert ("a", "p1") in victim(an_adapter("a", replicas=2, priority=1), once)
    alone = [an_adapter("x", base_model="other"), an_adapter("a", age_rank=1), an_adapter("b")]
    pod = holding(a_pod(slots=2), *(a_replica(a) for a in alone[1:]))
    assert unloads(plan_for(*alone, an_adapter("high", priority=5), pod)) == [("a", "p1")]
    pod = holding(a_pod(slots=2), a_replica(alone[1]), a_replica(alone[2], state=LOADING))
    made = plan_for(*alone, an_adapter("high", priority=5), pod)
    assert not made.actions  # the load under way is not raced: its replica goes as soon as it has arrived
    assert made.assignments["high"] == ("p1",) and made.assignments["b"] == ()


def test_the_pod_with_the_cheapest_victims_is_chosen() -> None:
    low, mid, high = an_adapter("low"), an_adapter("mid", priority=1), an_adapter("high", priority=2)
    made = plan_for(
        low, mid, high, holding(a_pod("p1", slots=1), a_replica(mid)), holding(a_pod("p2", slots=1), a_replica(low))
    )
    assert unloads(made) == [("low", "p2")] and made.assignments["high"] == ("p2",)


def test_every_replica_of_a_higher_priority_may_preempt() -> None:
    low = an_adapter("low", replicas=3)
    pods = [holding(a_pod(f"p{i}", slots=1), a_replica(low)) for i in range(3)]
    for high in (
        an_adapter("high", priority=1, replicas=2),
        an_adapter("high", priority=1, replica_policy=ReplicaPolicy.ALL_PODS),
    ):
        made = plan_for(low, high, *pods)
        expected = 3 if high.replica_policy is ReplicaPolicy.ALL_PODS else 2
        assert len(made.assignments["high"]) == len(unloads(made)) == expected


def test_room_that_came_free_is_seen_by_those_who_may_be_there_only() -> None:
    gold = Selector((("tier", "gold"),))
    low = [an_adapter(f"l{i}", rank=4) for i in range(2)]
    first = an_adapter("first", priority=3, selector=gold)
    high, late = an_adapter("high", priority=2, rank=32), an_adapter("late", priority=1, selector=gold)
    pods = (
        holding(a_pod("p1", slots=2, max_rank=64), *map(a_replica, low)),
        a_pod("p2", slots=1, labels={"tier": "gold"}),
    )
    made = plan_for(*low, first, high, late, *pods)
    assert made.assignments["first"] == ("p2",) and made.assignments["high"] == ("p1",)
    assert made.assignments["late"] == () and len(unloads(made)) == 1


def test_nobody_is_preempted_in_vain() -> None:
    low = an_adapter("low")
    pod = holding(a_pod(memory=4), a_replica(low), a_foreigner(bytes=2 * GIB))
    made = plan_for(low, an_adapter("high", priority=1, bytes=3 * GIB), pod)
    assert not made.actions and reason_on(made, "p1", "high") is Reason.NOT_ENOUGH_MEMORY


def test_room_left_over_by_a_preemption_goes_to_who_could_not_make_it() -> None:
    low = an_adapter("low", bytes=4 * GIB)
    meek = an_adapter("meek", priority=3, preemption=NEVER, bytes=GIB)
    high = an_adapter("high", priority=2, bytes=2 * GIB)
    made = plan_for(low, meek, high, holding(a_pod(memory=4), a_replica(low)))
    assert made.assignments == {"high": ("p1",), "low": (), "meek": ("p1",)}


def test_a_surplus_replica_stays_after_all_where_the_other_one_has_to_make_room() -> None:
    low, busy = an_adapter("low"), an_adapter("busy", demand=50.0, rank=4)
    high = an_adapter("high", priority=1, rank=32)
    made = plan_for(
        low,
        busy,
        high,
        holding(a_pod("p1", slots=1, max_rank=64), a_replica(low)),
        holding(a_pod("p2", slots=2), a_replica(low), a_replica(busy)),
    )
    assert made.assignments == {"busy": ("p2",), "high": ("p1",), "low": ("p2",)}
    assert unloads(made) == [("low", "p1")] and not loads(made)


def test_asking_for_victims_where_there_are_not_enough_is_an_error() -> None:
    with pytest.raises(ValueError, match="no set of candidates frees that much"):
        victims([], 1, 0, {})


def test_a_victim_that_takes_room_from_lower_priorities_on_the_same_pod_stays_loaded() -> None:
    low, lower = (an_adapter(name, bytes=GIB // 2) for name in ("low", "lower"))
    mid, other = (an_adapter(name, bytes=3 * GIB // 2, priority=1) for name in ("mid", "other"))
    pod = holding(a_pod("p0", slots=4, memory=4.5), *map(a_replica, (low, lower, mid, other)))
    high = an_adapter("high", bytes=3 * GIB, priority=2)
    made = plan(a_snapshot(low, lower, mid, other, high, pod))
    assert made.assignments["high"] == made.assignments["mid"] == ("p0",)
    assert [name for name, _ in unloads(made)] == ["low", "lower", "other"]


# --- against brute force


def cost_of(made: Plan, adapters: dict[str, Adapter]) -> tuple[int, int] | None:
    gone = [action.adapter for action in made.actions if isinstance(action, Unload)]
    if not made.assignments["high"]:
        assert not gone
        return None
    return max((adapters[key or ""].priority for key in gone), default=-1), len(gone)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    pods=st.lists(
        st.tuples(
            st.integers(1, 5),
            st.integers(2, 10),
            st.lists(st.tuples(st.integers(1, 4), st.integers(0, 3)), max_size=5),
        ),
        min_size=1,
        max_size=3,
    ),
    size=st.integers(1, 6),
    priority=st.integers(0, 3),
)
def test_victims_are_the_minimum_that_brute_force_finds(
    pods: list[tuple[int, int, list[tuple[int, int]]]], size: int, priority: int
) -> None:
    """Each pod: slots, half GiB of memory, and what is on it as (half GiB, priority), as far as it fits."""
    adapters: dict[str, Adapter] = {}
    fleet = []
    costs: list[tuple[int, int]] = []
    for number, (slots, memory, residents) in enumerate(pods):
        there: list[Adapter] = []
        for half_gib, rank in residents:
            if len(there) < slots and sum(a.bytes for a in there) * 2 // GIB + half_gib <= memory:
                key = f"a{number}{len(there)}"
                # a selector of its own keeps it from moving to another pod, and so from taking part elsewhere
                there.append(an_adapter(key, bytes=half_gib * GIB // 2, priority=rank, namespace=f"n{number}"))
        adapters |= {a.key: a for a in there}
        fleet.append(
            holding(a_pod(f"p{number}", slots=slots, memory=memory / 2, namespace=f"n{number}"), *map(a_replica, there))
        )
        lower = [a for a in there if a.priority < priority]
        for count in range(len(lower) + 1):
            for gone in combinations(lower, count):
                left = [a for a in there if a not in gone]
                if len(left) < slots and sum(a.bytes for a in left) * 2 // GIB + size <= memory:
                    costs.append((max((a.priority for a in gone), default=-1), count))
    high = an_adapter("high", bytes=size * GIB // 2, priority=priority)
    made = plan(a_snapshot(*adapters.values(), high, *fleet))
    # a victim may get its place back from lower priorities: then the whole is not the price of one adapter any more
    assume(all(action.on_behalf_of == "high" for action in made.actions if isinstance(action, Unload)))
    assert cost_of(made, adapters) == min(costs, default=None)
    assert load_causes(made) <= {LoadCause.MISSING}
