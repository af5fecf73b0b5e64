"""A planner that goes on from its last round says what a plan from scratch would say, whatever happens to the fleet.

The random lives of `walks` assert at every action that no limit is broken; here every plan of such a life is made by a
lasting planner, which is told only what has changed.
"""

from __future__ import annotations

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from lora_scheduler import Plan, Planner, Policy
from tests.scheduler.walks import Walk, shuffled
from tests.scheduler.world import World

UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


class Follower:
    """Plans incrementally for a walk, and compares."""

    def __init__(self) -> None:
        self._planner: Planner | None = None
        self._adapters = World().adapters
        self._pods = World().pods

    def check(self, world: World, policy: Policy, made: Plan) -> None:
        if self._planner is None:
            self._planner = Planner(policy)
        found = self._planner.update(
            adapters=[a for key, a in world.adapters.items() if self._adapters.get(key) is not a],
            pods=[p for key, p in world.pods.items() if self._pods.get(key) is not p],
            removed_adapters=self._adapters.keys() - world.adapters.keys(),
            removed_pods=self._pods.keys() - world.pods.keys(),
        )
        self._adapters, self._pods = dict(world.adapters), dict(world.pods)
        assert_same(found, made)


def assert_same(found: Plan, expected: Plan) -> None:
    """Equal, and in the same order throughout."""
    assert found.actions == expected.actions
    assert found.waiting == expected.waiting
    assert list(found.assignments.items()) == list(expected.assignments.items())
    assert found.overloads == expected.overloads
    assert list(found.missing.items()) == list(expected.missing.items())
    assert list(found.refusals.items()) == list(expected.refusals.items())
    assert found == expected


@settings(UNHURRIED, max_examples=150)
@given(seed=st.integers(0, 2**32), steps=st.integers(1, 40))
def test_a_planner_told_of_changes_makes_the_plans_that_are_made_from_scratch(seed: int, steps: int) -> None:
    walk = Walk(seed, Follower().check)
    walk.live(steps)
    walk.failures_are_due_again()
    walk.held_pods_are_back()
    walk.come_to_rest()


@settings(UNHURRIED, max_examples=150)
@example(seed=128545, steps=25)  # a place that is held on to, has nothing there, and is barred
@given(seed=st.integers(0, 2**32), steps=st.integers(1, 40))
def test_a_planner_that_remembers_holds_on_to_what_is_held_on_to_from_scratch(seed: int, steps: int) -> None:
    planners: list[Planner] = []

    def check(world: World, policy: Policy, made: Plan) -> None:
        if not planners:
            planners.append(Planner(policy, remember=True))
        assert_same(planners[0].plan(shuffled(world.snapshot, len(made.actions))), made)

    walk = Walk(seed, check, remember=True)
    walk.live(steps)
    walk.failures_are_due_again()
    walk.held_pods_are_back()
    walk.come_to_rest()


@settings(UNHURRIED, max_examples=50)
@given(seed=st.integers(0, 2**32), steps=st.integers(1, 20))
def test_a_planner_given_whole_snapshots_in_any_order_finds_out_what_has_changed(seed: int, steps: int) -> None:
    planners: list[Planner] = []

    def check(world: World, policy: Policy, made: Plan) -> None:
        if not planners:
            planners.append(Planner(policy))
        found = planners[0].plan(shuffled(world.snapshot, len(made.actions)))
        assert_same(found, made)
        assert_same(planners[0].plan(world.snapshot), made)

    Walk(seed, check).live(steps)
