"""Replicas that serve move for the sake of load: a few at a time, the new one before the old one goes, and
nothing is remembered on the way."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lora_scheduler import (
    Adapter,
    LoadCause,
    Obstacle,
    Pod,
    Policy,
    Reason,
    ReplicaPolicy,
    ResidentState,
    Selector,
    Snapshot,
    plan,
)
from tests.scheduler.builders import (
    GIB,
    LOADING,
    a_pod,
    a_replica,
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
from tests.scheduler.world import World

ZONE = "topology.kubernetes.io/zone"
GOLD = Selector((("tier", "gold"),))
FAILED = (Reason.LOAD_FAILED, "the engine answered 500")


def crowd(*demands: float | None, **fields: Any) -> list[Adapter]:
    return [an_adapter(f"a{i}", demand=demand, **fields) for i, demand in enumerate(demands)]


def loaded_on(key: str, adapters: list[Adapter], **fields: Any) -> Pod:
    return holding(a_pod(key, **({"slots": 8} | fields)), *(a_replica(adapter) for adapter in adapters))


def load_of(snapshot: Snapshot) -> dict[str, float]:
    shares = {a.key: (a.demand or 0.0) / max(len(where(snapshot, a.key)), 1) for a in snapshot.adapters}
    return {pod.key: sum(shares[r.adapter or ""] for r in pod.residents) for pod in snapshot.pods}


def in_zone(zone: str) -> dict[str, str]:
    return {ZONE: zone}


# --- load


def test_a_pod_with_too_much_load_gives_up_just_enough_and_comes_to_rest() -> None:
    adapters = crowd(4.0, 3.0, 2.0, 1.0)
    rested, plans = run(a_snapshot(*adapters, loaded_on("p1", adapters), a_pod("p2", slots=8)))
    assert load_of(rested) == {"p1": 5.0, "p2": 5.0}
    assert sum(len(loads(made)) for made in plans) <= 3
    assert load_causes(plans[0]) == {LoadCause.MOVE} and not unloads(plans[0])


def test_the_old_replica_serves_until_the_new_one_does_and_the_move_is_not_begun_twice() -> None:
    adapters = crowd(4.0, 4.0)
    pods = loaded_on("p1", adapters), a_pod("p2")
    made = plan_for(*adapters, *pods)
    assert len(loads(made)) == 1 and not unloads(made)
    mover = loads(made)[0][0]
    assert made.assignments[mover] == ("p2",)
    arriving = holding(pods[1], a_replica(mover, state=LOADING))
    made = plan_for(*adapters, pods[0], arriving)
    assert not made.actions and made.assignments[mover] == ("p2",)
    made = plan_for(*adapters, pods[0], holding(pods[1], a_replica(mover)))
    assert unloads(made) == [(mover, "p1")] and not loads(made)


@pytest.mark.parametrize("epsilon", [None, 5.0])
def test_nothing_moves_where_that_is_not_wanted_or_loads_are_even_enough(epsilon: float | None) -> None:
    adapters = crowd(4.0, 4.0)
    policy = Policy(rebalance_epsilon=epsilon)
    assert not plan_for(*adapters, loaded_on("p1", adapters), a_pod("p2"), policy=policy).actions


def test_binpack_does_not_undo_its_own_packing_for_the_sake_of_load() -> None:
    adapters = crowd(*(float(n + 1) for n in range(10)))
    pods = [a_pod(f"p{n}", slots=10, node=f"n{n}") for n in range(5)]
    after, plans = run(a_snapshot(*adapters, *pods), Policy("binpack"))
    assert sorted(len(pod.residents) for pod in after.pods) == [0, 0, 0, 0, 10]
    assert sum(len(made.actions) for made in plans) == 10 and not plans[-1].overloads


def test_without_a_budget_nothing_moves() -> None:
    adapters = crowd(4.0, 4.0)
    assert not plan_for(*adapters, loaded_on("p1", adapters), a_pod("p2"), policy=Policy(max_moves=0)).actions


def test_moves_under_way_count_against_the_budget() -> None:
    adapters = crowd(*[1.0] * 8)
    pods = loaded_on("p1", adapters), a_pod("p2", slots=8)
    assert len(loads(plan_for(*adapters, *pods, policy=Policy(max_moves=3)))) == 3
    on_the_way = holding(pods[1], *(a_replica(a, state=LOADING) for a in adapters[:2]))
    assert len(loads(plan_for(*adapters, pods[0], on_the_way, policy=Policy(max_moves=3)))) == 1
    assert not plan_for(*adapters, pods[0], on_the_way, policy=Policy(max_moves=2)).actions


def test_replicas_that_wait_for_a_place_elsewhere_in_vain_hold_no_move_up() -> None:
    """They serve on where they may no longer be, as nobody else can take them: perhaps for ever."""
    barred = [an_adapter(f"barred{i}", rank=16, demand=0.0) for i in range(5)]
    adapters = crowd(4.0, 4.0)
    narrow = [loaded_on("p0", barred, max_rank=8), loaded_on("p1", adapters, max_rank=8), a_pod("p2", max_rank=8)]
    made = plan_for(*barred, *adapters, *narrow)
    assert load_causes(made) == {LoadCause.MOVE} and len(loads(made)) == 1


def test_unknown_demand_moves_nothing() -> None:
    adapters = crowd(None, None, None, None)
    assert not plan_for(*adapters, loaded_on("p1", adapters), a_pod("p2", slots=8)).actions


def test_differences_of_load_that_chance_can_explain_move_nothing() -> None:
    """Half a request per second, over a minute, is some forty requests: a sixth more or less is nothing."""
    for scale, moves in ((1.0, False), (100.0, True)):
        adapters = crowd(*[0.1 * scale] * 6), [an_adapter(f"b{i}", demand=0.1 * scale) for i in range(4)]
        pods = loaded_on("p1", adapters[0]), loaded_on("p2", adapters[1])
        assert plan_for(*adapters[0], *adapters[1], *pods).actions
        made = plan_for(*adapters[0], *adapters[1], *pods, policy=Policy(demand_half_life=60.0))
        assert bool(made.actions) is moves


def test_a_pod_that_keeps_too_much_load_is_named_with_the_reason() -> None:
    adapters = crowd(4.0, 4.0)
    hot = loaded_on("p1", adapters)
    (kept,) = plan_for(*adapters, hot, a_pod("p2", memory=0.5)).overloads
    assert (kept.pod, kept.load, kept.obstacle) == ("p1", 8.0, Obstacle.NO_ROOM_ELSEWHERE)
    assert kept.message == (
        "8 requests per second are expected where 4.4 are tolerated: "
        "no other pod can take one of its 2 replicas that may move and still have clearly less"
    )
    (kept,) = plan_for(*adapters, hot, a_pod("p2"), policy=Policy(max_moves=0)).overloads
    assert kept.obstacle is Obstacle.MOVES_UNDER_WAY
    everywhere = crowd(9.0, 9.0, replica_policy=ReplicaPolicy.ALL_PODS)
    gold = [replace(a, selector=GOLD) for a in everywhere]
    (kept,) = plan_for(*gold, loaded_on("p1", gold, labels={"tier": "gold"}), a_pod("p2")).overloads
    assert kept.obstacle is Obstacle.NOTHING_TO_MOVE and "none of its 2 replicas may move" in kept.message


def test_pods_that_share_more_load_than_all_others_divide_it_evenly() -> None:
    """Only two pods are selected: neither can come near the mean of all."""
    adapters = crowd(*[4.0] * 6, selector=GOLD)
    p1 = loaded_on("p1", adapters[:5], labels={"tier": "gold"})
    p2 = loaded_on("p2", adapters[5:], labels={"tier": "gold"})
    rested, plans = run(a_snapshot(*adapters, p1, p2, *(a_pod(f"q{i}") for i in range(6))))
    assert load_of(rested)["p1"] == load_of(rested)["p2"] == 12.0
    assert sum(len(loads(made)) for made in plans) == 2


@pytest.mark.parametrize("epsilon", [0.0, 1e-9, 0.1])
@pytest.mark.parametrize("scale", [1.0, 1e-7])
def test_a_replica_does_not_change_sides_where_the_other_one_would_then_have_as_much(
    epsilon: float, scale: float
) -> None:
    adapters = crowd(8.0 * scale, 0.7 * scale), [an_adapter("b", demand=8.0 * scale)]
    pods = loaded_on("p1", adapters[0]), loaded_on("p2", adapters[1])
    run(a_snapshot(*adapters[0], *adapters[1], *pods, a_pod("p3", max_rank=4)), Policy(rebalance_epsilon=epsilon))


def test_nothing_is_said_of_pods_that_are_relieved_or_even_enough() -> None:
    adapters = crowd(4.0, 4.0)
    assert not plan_for(*adapters, loaded_on("p1", adapters), a_pod("p2")).overloads
    assert not plan_for(*adapters, loaded_on("p1", adapters), a_pod("p2"), policy=Policy(rebalance_epsilon=5)).overloads


def test_the_largest_replica_cannot_be_divided_and_is_left_alone() -> None:
    adapters = crowd(9.0, 0.1)
    assert not plan_for(*adapters, loaded_on("p1", adapters), a_pod("p2")).actions


def test_dust_is_not_worth_a_load() -> None:
    adapters = crowd(10.0, *[0.05] * 50)
    other = an_adapter("b", demand=9.9)
    pods = loaded_on("p1", adapters, slots=60), loaded_on("p2", [other], slots=60)
    assert not plan_for(*adapters, other, *pods).actions


def test_a_small_change_of_demand_undoes_no_move() -> None:
    adapters = crowd(4.0, 3.0, 2.0, 1.0, 1.0, 0.5)
    rested, _ = run(a_snapshot(*adapters, loaded_on("p1", adapters), a_pod("p2", slots=8), a_pod("p3", slots=8)))
    for factor in (0.995, 1.005):
        first = rested.adapters[0]
        changed = replace(rested, adapters=(replace(first, demand=(first.demand or 0) * factor), *rested.adapters[1:]))
        assert not plan(changed).actions


def test_two_replicas_change_places_where_no_move_alone_would_help() -> None:
    hot, warm = crowd(6.0, 6.0), [an_adapter("w0", demand=3.5), an_adapter("w1", demand=3.5)]
    snapshot = a_snapshot(*hot, *warm, loaded_on("p1", hot), loaded_on("p2", warm))
    made = plan(snapshot)
    assert len(loads(made)) == 2 and {pod for _, pod in loads(made)} == {"p1", "p2"} and not unloads(made)
    rested, _ = run(snapshot)
    assert load_of(rested) == {"p1": 9.5, "p2": 9.5}


def test_replicas_do_not_change_places_with_a_budget_of_one_or_without_room() -> None:
    hot, warm = crowd(6.0, 6.0), [an_adapter("w0", demand=3.5), an_adapter("w1", demand=3.5)]
    assert not plan_for(*hot, *warm, loaded_on("p1", hot), loaded_on("p2", warm), policy=Policy(max_moves=1)).actions
    assert not plan_for(*hot, *warm, loaded_on("p1", hot), loaded_on("p2", warm, slots=2)).actions
    tight = 2.5  # GiB: a third replica does not fit for a moment
    assert not plan_for(*hot, *warm, loaded_on("p1", hot), loaded_on("p2", warm, memory=tight)).actions


@pytest.mark.parametrize(
    "other",
    [
        a_pod("p2", slots=1, residents=(a_replica("x", adapter="x", owned=False),)),
        a_pod("p2", memory=0.5),
        a_pod("p2", max_rank=4),
        a_pod("p2", ready=False),
        a_pod("p2", base_model="qwen"),
        a_pod("p2", excluded={f"a{i}": FAILED for i in range(2)}),
    ],
)
def test_a_replica_stays_where_no_other_pod_can_take_it(other: Pod) -> None:
    adapters = crowd(4.0, 4.0)
    assert not plan_for(*adapters, loaded_on("p1", adapters), other).actions


def test_an_adapter_that_failed_to_load_somewhere_is_not_tried_on_pod_after_pod() -> None:
    adapters = crowd(4.0, 4.0)
    pods = [a_pod(f"p{i + 2}", excluded={f"a{i}": FAILED}) for i in range(2)]
    assert not plan_for(*adapters, loaded_on("p1", adapters), *pods, a_pod("p4")).actions


def test_where_several_failed_to_load_the_pod_is_to_blame_and_another_one_is_taken() -> None:
    adapters = crowd(4.0, 4.0)
    broken = a_pod("p2", excluded={"a0": FAILED, "a1": FAILED})
    made = plan_for(*adapters, loaded_on("p1", adapters), broken, a_pod("p3"))
    assert loads(made) == [("a0", "p3")]


def test_a_failed_move_leaves_the_replica_where_it_was() -> None:
    adapters = crowd(4.0, 4.0)
    world = World()
    world.adapters = {a.key: a for a in adapters}
    world.pods = {"p1": loaded_on("p1", adapters), "p2": a_pod("p2")}
    world.begin_all(plan(world.snapshot))
    for pod, resident in world.in_flight():
        world.fail(pod, resident)
    for _ in range(5):
        made = plan(world.snapshot)
        world.begin_all(made)
        for pod, resident in world.in_flight():
            world.fail(pod, resident)
    assert not made.actions
    assert all(where(world.snapshot, a.key) == ["p1"] for a in adapters)


@pytest.mark.parametrize("blip", [{"ready": False, "held": True}, {"ready": False}, {"draining": True}])
def test_a_move_ends_well_whatever_becomes_of_its_pods(blip: dict[str, bool]) -> None:
    adapters = crowd(4.0, 4.0)
    source, target = loaded_on("p1", adapters), holding(a_pod("p2"), a_replica("a0", state=LOADING))
    for pods in ((replace(source, **blip), target), (source, replace(target, **blip))):
        snapshot = a_snapshot(*adapters, *pods, a_pod("p3"))
        made = plan(snapshot)
        assert not unloads(made)  # no replica that may be the only one goes while others cannot be counted on
        back = tuple(replace(p, ready=True, held=False, draining=False) for p in snapshot.pods)
        rested, _ = run(replace(snapshot, pods=tuple(settled(pod) for pod in back)))
        assert max(load_of(rested).values()) <= 4.0 * 1.1
        assert all(len(where(rested, a.key)) == 1 for a in adapters)


def settled(pod: Pod) -> Pod:
    return replace(pod, residents=tuple(replace(r, state=ResidentState.LOADED) for r in pod.residents))


def test_after_a_lost_pod_loads_are_even_again_with_few_moves() -> None:
    adapters = [
        an_adapter(f"a{i:02}", demand=d) for i, d in enumerate([5, 5, 4, 4, 3, 3, 2, 2, 1, 1, 1, 1, 1, 1, 1, 1])
    ]
    rested, _ = run(a_snapshot(*adapters, *(a_pod(f"p{i}", slots=9) for i in range(4))))
    lost = len(rested.pods[0].residents)
    after, plans = run(replace(rested, pods=rested.pods[1:]))
    total = sum(a.demand or 0 for a in adapters)
    assert max(load_of(after).values()) <= 1.1 * max(total / 3, 5.0)
    assert sum(len(loads(made)) for made in plans) <= 2 * lost


@settings(deadline=None, max_examples=30, suppress_health_check=[HealthCheck.too_slow])
@given(
    demands=st.lists(st.none() | st.floats(0.1, 50), min_size=1, max_size=12),
    replicas=st.integers(1, 3),
    pods=st.integers(3, 6),
    change=st.sampled_from(["lost", "added", "none"]),
)
def test_without_rebalancing_no_more_moves_than_replicas_were_lost(
    demands: list[float | None], replicas: int, pods: int, change: str
) -> None:
    """That is the minimum: what was lost has to be loaded again, nothing else has to move."""
    policy = Policy(rebalance_epsilon=None)
    adapters = crowd(*demands, replicas=replicas)
    rested, _ = run(a_snapshot(*adapters, *(a_pod(f"p{i}", slots=36) for i in range(pods))), policy)
    first, *others = rested.pods
    displaced = len(first.residents) if change == "lost" and pods > replicas else 0
    after = {"lost": tuple(others), "added": (*rested.pods, a_pod("new", slots=36)), "none": rested.pods}[change]
    _, plans = run(replace(rested, pods=after), policy)
    assert sum(len(loads(made)) for made in plans) == displaced
    assert not any(unloads(made) for made in plans)


@settings(deadline=None, max_examples=12, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 2**32), use=st.floats(0.6, 1.05))
def test_moves_come_to_an_end_in_fleets_of_any_fullness(seed: int, use: float) -> None:
    """After a pod was lost, and after demand has changed; `run` fails where the plans go on for ever."""
    dice = random.Random(seed)
    adapters = [
        an_adapter(
            f"a{i:02}", demand=100 / (i + 1), bytes=dice.choice((1, 2, 4, 8)) * GIB, replicas=dice.choice((1, 1, 1, 3)),
            rank=dice.choice((8, 8, 16)), selector=dice.choice((*[Selector()] * 4, GOLD)),
            topology_key=dice.choice((ZONE, "kubernetes.io/hostname")),
        )
        for i in range(48)
    ]  # fmt: skip
    size = sum(a.bytes * a.replicas for a in adapters) / GIB / use / 6
    slots = int(sum(a.replicas for a in adapters) / use / 6) + 1
    pods = [
        a_pod(
            f"p{i}",
            slots=slots,
            memory=size,
            max_rank=dice.choice((8, 16)),
            node_labels=in_zone(f"z{i % 3}"),
            labels={"tier": "gold"} if i % 3 else {},
        )
        for i in range(7)
    ]
    rested, _ = run(a_snapshot(*adapters, *pods))
    rested, _ = run(replace(rested, pods=rested.pods[1:]), rounds=90)
    changed = tuple(replace(a, demand=(a.demand or 0) * dice.uniform(0.5, 2.0)) for a in rested.adapters)
    run(replace(rested, adapters=changed), rounds=90)


def test_moves_need_room_beside_what_is_leaving() -> None:
    adapters = crowd(4.0, 4.0)
    leaving = a_replica("x", bytes=3 * GIB, state=ResidentState.UNLOADING)
    made = plan_for(*adapters, loaded_on("p1", adapters), holding(a_pod("p2", memory=3.5), leaving))
    assert not made.actions


def test_a_pod_with_more_replicas_than_others_is_not_called_overloaded_where_no_demand_is_known() -> None:
    adapters = [an_adapter(f"a{number}") for number in range(4)]
    fleet = holding(a_pod("p1", slots=8), *(a_replica(adapter) for adapter in adapters)), a_pod("p2", slots=8)
    assert plan(a_snapshot(*adapters, *fleet)).overloads == ()
