"""Where all goes when nothing is there yet: even loads, nobody stranded, the most demand where room is scarce."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from itertools import product

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lora_scheduler import Adapter, Plan, Pod, Policy, ResidentState, plan
from tests.scheduler.builders import GIB, a_pod, a_replica, a_snapshot, an_adapter, holding, loads, plan_for, run

MIB = 1 << 20
ZONE = "topology.kubernetes.io/zone"
UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def zipf(count: int, *, exponent: float = 1.0, seed: int = 1, replicas: int = 1) -> list[Adapter]:
    """Adapters of mixed sizes and ranks; the order of demand has nothing to do with that of the keys."""
    dice = random.Random(seed)
    demands = [100 / (place + 1) ** exponent for place in range(count)]
    dice.shuffle(demands)
    ranks = [dice.choice((8, 16, 32, 64)) for _ in demands]
    return [
        an_adapter(f"a{i:03}", demand=d, rank=r, bytes=r * 5 * MIB, replicas=replicas, age_rank=i)
        for i, (d, r) in enumerate(zip(demands, ranks, strict=True))
    ]


def pods_for(adapters: Sequence[Adapter], count: int, use: float) -> list[Pod]:
    """Pods that are all alike, so much of whose room in all is wanted."""
    replicas = sum(adapter.replicas for adapter in adapters)
    size = sum(adapter.replicas * adapter.bytes for adapter in adapters)
    slots = -int(-replicas / use // count)
    return [a_pod(f"p{i:02}", slots=slots, memory=size / use / count / GIB, max_rank=64) for i in range(count)]


def imbalance(made: Plan, adapters: Sequence[Adapter], pods: Sequence[Pod]) -> float:
    load = dict.fromkeys((pod.key for pod in pods), 0.0)
    shares = {a.key: (a.demand or 0) / a.replicas for a in adapters}
    for key, where in made.assignments.items():
        for pod in where:
            load[pod] += shares[key]
    return max(load.values()) / max(sum(load.values()) / len(pods), max(shares.values()))


@pytest.mark.parametrize(("exponent", "replicas", "use"), [*product((0.8, 1.2), (1, 3), (0.6, 0.8)), (1.0, 2, 0.85)])
def test_loads_are_within_a_hundredth_of_even(exponent: float, replicas: int, use: float) -> None:
    adapters = zipf(120, exponent=exponent, replicas=replicas)
    pods = pods_for(adapters, 10, use)
    made = plan_for(*adapters, *pods)
    assert not made.missing
    assert imbalance(made, adapters, pods) <= 1.01


@pytest.mark.parametrize("seed", range(4))
def test_nobody_is_stranded_while_a_fiftieth_of_the_room_is_free(seed: int) -> None:
    adapters = zipf(150, seed=seed)
    made = plan_for(*adapters, *pods_for(adapters, 15, 0.98))
    assert not made.missing


def test_pieces_of_room_are_brought_together() -> None:
    adapters = [an_adapter(key, demand=d, bytes=n * GIB) for key, d, n in (("a", 9, 2), ("b", 8, 1), ("c", 7, 1))]
    late = an_adapter("late", demand=1.0, bytes=3 * GIB)
    # the first three go to pods of their own; only together do two of them leave room for the last one
    made = plan_for(*adapters, late, *(a_pod(f"p{i}", memory=3) for i in range(3)))
    assert not made.missing


def test_a_slot_is_freed_where_it_is_needed() -> None:
    small = [an_adapter(f"s{i}", demand=9.0 - i, rank=8) for i in range(4)]
    high = an_adapter("high", demand=1.0, rank=64)
    pods = a_pod("p1", slots=2, max_rank=64), a_pod("p2", slots=4)
    made = plan_for(*small, high, *pods)
    assert not made.missing and made.assignments["high"] == ("p1",)


def test_what_serves_or_is_on_its_way_is_not_moved_to_make_room() -> None:
    there = an_adapter("there", demand=1.0)
    high = an_adapter("high", demand=1.0, rank=64)
    for state in (ResidentState.LOADED, ResidentState.LOADING):
        full = holding(a_pod("p1", slots=1, max_rank=64), a_replica(there, state=state))
        made = plan_for(there, high, full, a_pod("p2"))
        assert made.missing == {"high": 1} and not loads(made)


def test_a_replica_that_makes_room_may_not_go_where_it_must_not() -> None:
    picky = an_adapter("picky", demand=9.0, rank=16)
    high = an_adapter("high", demand=1.0, rank=64)
    made = plan_for(picky, high, a_pod("p1", slots=1, max_rank=64), a_pod("p2", max_rank=8))
    assert made.missing == {"high": 1} and made.assignments["picky"] == ("p1",)


def test_high_ranks_come_first_where_memory_is_scarce() -> None:
    small = [an_adapter(f"s{i}", demand=9.0, bytes=2 * GIB, rank=8) for i in range(3)]
    high = an_adapter("high", demand=1.0, bytes=3 * GIB, rank=64)
    pods = a_pod("p1", slots=9, memory=4, max_rank=64), a_pod("p2", slots=9, memory=6, max_rank=16)
    made = plan_for(*small, high, *pods)
    assert not made.missing and made.assignments["high"] == ("p1",)


def test_other_base_models_are_left_out_of_account() -> None:
    adapters = [an_adapter(f"a{i}", demand=4.0) for i in range(4)]
    made = plan_for(*adapters, a_pod("p1"), a_pod("p2"), a_pod("q", base_model="qwen"), a_pod("r", ready=False))
    assert sorted(len([k for k, pods in made.assignments.items() if p in pods]) for p in ("p1", "p2")) == [2, 2]


def test_even_loads_do_not_bring_replicas_together() -> None:
    zones = [a_pod(f"p{i}", slots=9, node_labels={ZONE: f"z{i % 2}"}) for i in range(6)]
    adapters = [an_adapter(f"a{i}", demand=9.0 - i, replicas=2, topology_key=ZONE) for i in range(7)]
    made = plan_for(*adapters, *zones)
    for pods in made.assignments.values():
        assert {int(pod[1:]) % 2 for pod in pods} == {0, 1}


def test_loads_are_evened_out_by_the_default_policy_only() -> None:
    adapters = zipf(40)
    pods = pods_for(adapters, 5, 0.5)
    made = plan_for(*adapters, *pods, policy=Policy("binpack"))
    assert len({pod for _, pod in loads(made)}) < 5
    assert not plan_for(*adapters, *pods, policy=Policy("spread")).missing


# --- not enough for all


def served(made: Plan, adapters: Sequence[Adapter]) -> float:
    return sum((a.demand or 0) * len(made.assignments[a.key]) / a.replicas for a in adapters)


def test_scarce_slots_go_to_those_with_the_most_requests() -> None:
    adapters = zipf(30)
    made = plan_for(*adapters, *(a_pod(f"p{i}", max_rank=64) for i in range(3)))
    assert served(made, adapters) == pytest.approx(sum(sorted((a.demand or 0) for a in adapters)[-12:]))


def test_scarce_memory_goes_to_those_with_the_most_requests_for_it() -> None:
    large = an_adapter("large", demand=5.0, bytes=4 * GIB)
    small = [an_adapter(f"s{i}", demand=4.0) for i in range(4)]
    made = plan_for(large, *small, a_pod(slots=9, memory=4))
    assert "large" in made.missing and len(made.missing) == 1


def test_where_both_are_scarce_both_are_used() -> None:
    adapters = zipf(120, seed=3)
    pods = pods_for(adapters, 10, 1.3)
    made = plan_for(*adapters, *pods)
    slots, memory = sum(p.host_slots for p in pods), sum(p.memory_bytes or 0 for p in pods)
    used = sum(len(pods) for pods in made.assignments.values())
    size = sum(a.bytes * len(made.assignments[a.key]) for a in adapters)
    assert max(used / slots, size / memory) > 0.97
    assert served(made, adapters) >= 0.93 * sum(a.demand or 0 for a in adapters)


def test_with_equal_or_unknown_demand_the_oldest_are_served() -> None:
    for demand in (None, 3.0, 0.0):
        adapters = [an_adapter(f"a{i}", demand=demand, age_rank=9 - i) for i in range(6)]
        made = plan_for(*adapters, a_pod(slots=2))
        assert sorted(made.missing) == ["a0", "a1", "a2", "a3"]


def test_a_higher_priority_goes_before_any_demand() -> None:
    quiet = an_adapter("quiet", demand=0.1, priority=1)
    busy = [an_adapter(f"b{i}", demand=99.0) for i in range(3)]
    made = plan_for(quiet, *busy, a_pod(slots=2))
    assert made.assignments["quiet"] == ("p1",)


@settings(UNHURRIED, max_examples=25)
@given(seed=st.integers(0, 2**32), count=st.integers(1, 60), pods=st.integers(1, 8), use=st.floats(0.4, 1.3))
def test_a_plan_from_nothing_is_carried_out_in_one_go_and_rests(seed: int, count: int, pods: int, use: float) -> None:
    adapters = zipf(count, seed=seed)
    snapshot = a_snapshot(*adapters, *(replace(p, node=p.key) for p in pods_for(adapters, pods, use)))
    made = plan(snapshot)
    for pod in snapshot.pods:
        here = [adapter for adapter in adapters if pod.key in made.assignments[adapter.key]]
        assert len(here) <= pod.host_slots and sum(a.bytes for a in here) <= (pod.memory_bytes or 0)
    assert len(loads(made)) == len(made.actions) == sum(map(len, made.assignments.values()))
    # where not all find room, who is left out can leave loads uneven: then replicas that serve may move afterwards
    _, plans = run(snapshot, Policy(rebalance_epsilon=None) if made.missing else None)
    assert len(plans) <= 1


def test_each_base_model_has_a_scarcity_of_its_own() -> None:
    here = [an_adapter(f"a{i}", demand=float(i)) for i in range(4)]
    there = [an_adapter(f"b{i}", demand=float(i), base_model="qwen") for i in range(2)]
    made = plan_for(*here, *there, a_pod("p1", slots=2), a_pod("q1", base_model="qwen"), a_pod("q2", base_model="qwen"))
    assert sorted(made.missing) == ["a0", "a1"]
