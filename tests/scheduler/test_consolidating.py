"""A replica that serves moves to another pod where one that lacks room in one piece then finds it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lora_scheduler import LoadCause, Plan, Planner, Policy, Reason, plan
from tests.scheduler.builders import (
    LOADING,
    a_pod,
    a_replica,
    a_snapshot,
    an_adapter,
    holding,
    load_causes,
    loads,
    plan_for,
    unloads,
)
from tests.scheduler.world import World

# two pods with 4 of 10 bytes free, and an adapter of 6
SMALL = [an_adapter(f"s{n}", bytes=2, demand=1.0) for n in range(2)]
MEDIUM = [an_adapter(f"m{n}", bytes=4, demand=1.0) for n in range(2)]
LARGE = an_adapter("large", bytes=6, demand=1.0, age_rank=9)


def a_world(*more: object) -> World:
    world = World()
    world.adapters = {adapter.key: adapter for adapter in (*SMALL, *MEDIUM, LARGE)}
    for n in range(2):
        pod = holding(a_pod(f"p{n}", memory_bytes=10), a_replica(SMALL[n]), a_replica(MEDIUM[n]))
        world.pods[pod.key] = pod
    return world


def lives(world: World, planner: Planner, rounds: int = 12) -> list[Plan]:
    """Plans until all is at rest, one thing after the other; all that serve go on serving throughout."""
    plans = []
    for _ in range(rounds):
        made = planner.plan(world.snapshot)
        plans.append(made)
        world.begin_all(made)
        assert all(world.serving(adapter.key) for adapter in (*SMALL, *MEDIUM))
        flights = world.in_flight()
        if not made.actions and not flights:
            return plans
        if flights:
            world.end(*flights[0])
    raise AssertionError(f"not at rest: {plans[-1].actions}")


def test_one_small_move_makes_room_for_a_large_adapter() -> None:
    world = a_world()
    plans = lives(world, Planner(remember=True))
    assert world.serving("large") == 1
    moved = [load for made in plans for load in made.actions if getattr(load, "cause", None) is LoadCause.MOVE]
    assert len({load.adapter for load in moved}) == 1 and moved[0].adapter in {"s0", "s1"}


def test_the_plan_says_for_whom_which_replica_moves() -> None:
    made = Planner(remember=True).plan(a_world().snapshot)
    assert load_causes(made) == {LoadCause.MOVE} and len(loads(made)) == 1
    ((key, (pod, awaiting)),) = made.places.moves.items()
    assert awaiting == "large" and key in {"s0", "s1"} and pod == f"p{key[1]}"
    assert not Planner().plan(a_world().snapshot).actions  # where nothing is remembered, the next plan would undo it


def test_the_replica_that_is_to_leave_leaves_when_the_other_one_serves() -> None:
    world = a_world()
    first = plan(world.snapshot)
    world.places = first.places
    made = plan(world.snapshot)
    world.begin_all(made)
    world.places = made.places
    made = plan(world.snapshot)
    assert not made.actions and made.places.moves  # one move is enough, and it is not begun twice
    world.end_all()
    world.places = made.places
    made = plan(world.snapshot)
    assert [name for name, _ in unloads(made)] == ["s0"] and not made.places.moves
    assert made.assignments["large"] == ("p0",)


def test_without_memory_only_such_moves_are_begun_as_also_make_loads_more_even() -> None:
    hot = replace(MEDIUM[0], demand=9.0)
    pods = list(a_world().pods.values())
    policy = Policy(rebalance_epsilon=None)
    made = plan_for(*SMALL, hot, MEDIUM[1], LARGE, *pods, policy=policy)
    assert loads(made) == [("s0", "p1")] and load_causes(made) == {LoadCause.MOVE}
    assert not plan_for(*SMALL, *MEDIUM, LARGE, *pods, policy=policy).actions


def test_nothing_moves_where_moves_are_not_allowed() -> None:
    planner, world = Planner(Policy(max_moves=0), remember=True), a_world()
    lives(world, planner)
    assert world.serving("large") == 0


def test_nothing_moves_in_vain() -> None:
    world = a_world()
    world.adapters["large"] = replace(LARGE, bytes=9)
    lives(world, Planner(remember=True))
    assert all(len(pod.residents) == 2 for pod in world.pods.values())


@pytest.mark.parametrize("state", ["failed", "arriving"])
def test_nothing_moves_for_what_has_failed_nor_what_is_not_at_rest(state: str) -> None:
    world = a_world()
    if state == "failed":
        other = a_pod("p3", memory_bytes=1, excluded={"large": (Reason.LOAD_FAILED, "no")})
        world.pods["p3"] = other
    else:
        world.adapters = {key: replace(one, replicas=1 if key == "large" else 2) for key, one in world.adapters.items()}
        arriving = [replace(resident, state=LOADING) for resident in world.pods["p0"].residents]
        world.pods["p0"] = replace(world.pods["p0"], residents=tuple(arriving))
    world.places = plan(world.snapshot).places
    made = plan(world.snapshot)
    assert not made.places.moves


def test_a_slot_is_made_too() -> None:
    world = a_world()
    world.pods = {key: replace(pod, host_slots=3 if key == "p1" else 2) for key, pod in world.pods.items()}
    world.pods["p1"] = replace(world.pods["p1"], memory_bytes=8)
    world.adapters["large"] = replace(LARGE, bytes=6)
    lives(world, Planner(remember=True))
    assert world.serving("large") == 1


def test_a_move_whose_load_fails_is_given_up() -> None:
    planner, world = Planner(remember=True), a_world()
    world.places = plan(world.snapshot).places
    made = plan(world.snapshot)
    world.begin_all(made)
    for flight in world.in_flight():
        world.fail(*flight)
    world.places = made.places
    made = plan(world.snapshot)
    assert list(made.places.moves) != ["s0"]
    assert planner.plan(a_snapshot()).places.moves == {}
