"""Fleets of several namespaces and base models, with replicas that follow demand or are everywhere, and their planners.

After every event the plan of a planner that was told only of the change is the plan made from scratch, none of its
actions breaks a limit (`World` refuses it otherwise), and a fleet that is left alone comes to rest.
"""

from __future__ import annotations

import random
from dataclasses import replace

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from lora_scheduler import Adapter, Plan, Planner, Pod, Policy, ReplicaPolicy, Requirement, Selector, plan
from tests.scheduler.builders import GIB, a_pod, an_adapter
from tests.scheduler.test_incremental_planning import assert_same
from tests.scheduler.world import World

ZONE = "topology.kubernetes.io/zone"
NAMESPACES = ("red", "blue")
MODELS = ("llama", "qwen")
SELECTORS = (Selector(), Selector((("tier", "gold"),)), Selector((), (Requirement("tier", "NotIn", ("gold",)),)))


def some_adapter(dice: random.Random, number: int) -> Adapter:
    policy = dice.choice((ReplicaPolicy.FIXED,) * 5 + (ReplicaPolicy.AUTO, ReplicaPolicy.AUTO, ReplicaPolicy.ALL_PODS))
    return an_adapter(
        f"a{number:02}",
        namespace=dice.choice(NAMESPACES),
        base_model=dice.choice(MODELS),
        version=dice.choice(("v1", "v2")),
        bytes=dice.choice((1, 1, 2, 4)) * GIB // 4,
        rank=dice.choice((8, 8, 16, 64)),
        priority=dice.choice((0, 0, 0, 1, 5)),
        replicas=dice.choice((1, 1, 1, 2, 3)),
        replica_policy=policy,
        max_replicas=dice.choice((None, 3)),
        selector=dice.choice(SELECTORS),
        topology_key=dice.choice(("kubernetes.io/hostname", ZONE)),
        demand=dice.choice((None, 0.1, 0.5, 1.0, 1.0, 7.0)),
        age_rank=number,
    )


def some_pod(dice: random.Random, number: int) -> Pod:
    return a_pod(
        f"p{number}",
        slots=dice.choice((2, 4, 6, 8)),
        memory=dice.choice((None, 2.0, 3.0)),
        max_rank=dice.choice((16, 64)),
        namespace=dice.choice((*NAMESPACES, "")),
        base_model=dice.choice(MODELS),
        labels=dice.choice(({}, {"tier": "gold"}, {"tier": "iron"})),
        node=f"n{number // 2}",
        node_labels={ZONE: f"z{number % 3}"},
    )


class Life(RuleBasedStateMachine):
    """One fleet, its planner, and what has changed since it was last asked."""

    remember = False

    @initialize(seed=st.integers(0, 2**32), policy=st.sampled_from(("balanced", "balanced", "binpack", "spread")))
    def begin(self, seed: int, policy: str) -> None:
        self.dice = random.Random(seed)
        self.policy = Policy(policy)
        self.planner = Planner(self.policy, remember=self.remember)
        self.world = World()
        for number in range(self.dice.choice((2, 5, 8))):
            pod = some_pod(self.dice, number)
            self.world.pods[pod.key] = pod
        for number in range(self.dice.choice((3, 15, 30))):
            adapter = some_adapter(self.dice, number)
            self.world.adapters[adapter.key] = adapter
        self.told = World()

    @invariant()
    def the_planner_agrees_with_a_plan_from_scratch(self) -> None:
        if not hasattr(self, "planner"):
            return
        before = self.planner.snapshot
        self.made = self.next_plan()
        if self.planner.snapshot.pods != before.pods or self.planner.snapshot.adapters != before.adapters:
            assert_same(self.made, plan(replace(self.world.snapshot, places=before.places), self.policy))

    def next_plan(self) -> Plan:
        world, told = self.world, self.told
        made = self.planner.update(
            adapters=[adapter for key, adapter in world.adapters.items() if told.adapters.get(key) is not adapter],
            pods=[pod for key, pod in world.pods.items() if told.pods.get(key) is not pod],
            removed_adapters=told.adapters.keys() - world.adapters.keys(),
            removed_pods=told.pods.keys() - world.pods.keys(),
        )
        told.adapters, told.pods = dict(world.adapters), dict(world.pods)
        return made

    @rule()
    def everything_planned_happens(self) -> None:
        self.world.begin_all(self.made)
        self.world.end_all()

    @rule()
    def half_of_what_is_planned_begins(self) -> None:
        for action in self.made.actions[::2]:
            self.world.begin(action)

    @rule()
    def some_of_it_fails(self) -> None:
        for number, flight in enumerate(self.world.in_flight()):
            (self.world.fail if number % 3 == 0 else self.world.end)(*flight)

    @rule()
    def failures_are_due_again(self) -> None:
        self.world.pods = {
            key: replace(pod, excluded={}) if pod.excluded else pod for key, pod in self.world.pods.items()
        }

    @rule(number=st.integers(0, 8))
    def a_pod_comes_or_goes(self, number: int) -> None:
        if self.world.pods.pop(f"p{number}", None) is None:
            self.world.pods[f"p{number}"] = some_pod(self.dice, number)

    @rule(number=st.integers(0, 8), field=st.sampled_from(("ready", "held", "draining")))
    def a_pod_is_away_or_back(self, number: int, field: str) -> None:
        pod = self.world.pods.get(f"p{number}")
        if pod is not None:
            away = not pod.ready or pod.draining
            now = {"ready": True, "held": False, "draining": False}
            then = {"ready": field == "draining", "held": field == "held", "draining": field == "draining"}
            self.world.pods[pod.key] = replace(pod, **(now if away else then))

    @rule(number=st.integers(0, 8))
    def a_pod_is_declared_anew(self, number: int) -> None:
        pod = self.world.pods.get(f"p{number}")
        if pod is not None:
            self.world.pods[pod.key] = replace(some_pod(self.dice, number), residents=pod.residents)

    @rule(number=st.integers(0, 31))
    def an_adapter_comes_or_goes(self, number: int) -> None:
        if self.world.adapters.pop(f"a{number:02}", None) is None:
            self.world.adapters[f"a{number:02}"] = some_adapter(self.dice, number)

    @rule(number=st.integers(0, 31))
    def an_adapter_is_declared_anew(self, number: int) -> None:
        old = self.world.adapters.get(f"a{number:02}")
        if old is not None:
            kept = {"namespace": old.namespace, "base_model": old.base_model}
            self.world.adapters[old.key] = replace(some_adapter(self.dice, number), **kept)

    @rule(share=st.sampled_from((0.2, 0.8)))
    def some_adapters_fall_idle_and_others_are_used_again(self, share: float) -> None:
        for key, adapter in sorted(self.world.adapters.items()):
            idle = self.dice.random() < share
            if idle != adapter.idle:
                since = self.dice.choice((1, 2, 3)) if idle else None
                self.world.adapters[key] = replace(adapter, idle_since=since, priority=self.dice.choice((0, 0, 1)))

    @rule(number=st.integers(0, 8), much=st.booleans())
    def files_come_and_go(self, number: int, much: bool) -> None:
        pod = self.world.pods.get(f"p{number}")
        if pod is not None:
            of = [(one.name, one.version) for _, one in sorted(self.world.adapters.items()) if self.dice.random() < 0.5]
            budget = self.dice.choice((None, GIB, 3 * GIB))
            self.world.pods[pod.key] = replace(pod, stored=frozenset(of) if much else frozenset(), disk_bytes=budget)

    @rule(factor=st.sampled_from((0.2, 1.1, 5.0)))
    def demand_changes(self, factor: float) -> None:
        for key, adapter in sorted(self.world.adapters.items()):
            if adapter.demand is not None and self.dice.random() < 0.3:
                self.world.adapters[key] = replace(adapter, demand=adapter.demand * factor)

    def teardown(self) -> None:
        if hasattr(self, "planner"):
            self.failures_are_due_again()
            self.come_to_rest()

    def come_to_rest(self) -> None:
        for _ in range(80):
            self.made = self.next_plan()
            if self.rests():
                return
            self.world.begin_all(self.made)
            self.world.end_all()
        raise AssertionError(f"the fleet does not come to rest: {self.made.actions}")

    def rests(self) -> bool:
        return not self.made.actions and not self.world.in_flight()


class LifeRemembered(Life):
    """The same with a planner that holds on to the places that it has given, and no update costs a replica.

    The fleets are too small for all: who waits takes nothing from those that are updated.
    """

    remember = True

    @rule()
    def weights_change_in_a_fleet_at_rest(self) -> None:
        self.failures_are_due_again()
        self.come_to_rest()
        # a replica more than demand needs is kept while it is there, and not brought back once an update has replaced
        # it
        kept = {
            key: one.replicas if one.replica_policy is ReplicaPolicy.AUTO else len(self.made.assignments[key])
            for key, one in self.world.adapters.items()
            if not one.idle
        }
        before = {key: min(kept[key], len(places)) for key, places in self.made.assignments.items() if key in kept}
        before = {key: count for key, count in before.items() if count}
        for key in sorted(before)[::2]:
            adapter = self.world.adapters[key]
            self.world.adapters[key] = replace(adapter, version="v1" if adapter.version == "v2" else "v2")
        self.come_to_rest()
        assert all(len(self.made.assignments[key]) >= count for key, count in before.items())


LIVES = settings(max_examples=25, stateful_step_count=15, deadline=None, suppress_health_check=list(HealthCheck))
TestLife = Life.TestCase
TestLife.settings = LIVES
TestLifeRemembered = LifeRemembered.TestCase
TestLifeRemembered.settings = LIVES
