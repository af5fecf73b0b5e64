"""Random lives of adapters on demand: who is asked comes, who always is stays, and the same requests move nothing."""

from __future__ import annotations

import random
from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from lora_operator.api.usage_record import Use
from lora_operator.desired.adapters import desired
from lora_operator.informers.records import Resource
from lora_scheduler import Load, Plan, ReplicaPolicy, UnloadCause, plan
from tests.core.builders import a_resource, a_source, found
from tests.scheduler.builders import GIB, a_pod
from tests.scheduler.world import World

WANTED_SECONDS = 300.0
ROUND_SECONDS = 20
NAMES = ("a", "b", "c", "d", "e", "f")
ALWAYS_ASKED, SELDOM_ASKED = (20, 100, 280), (400, 700, 1500, None)  # seconds between two requests


class Life:
    """A fleet, its LoraAdapters, and people who ask for each at its own pace. `World` refuses what breaks a limit."""

    def __init__(self, seed: int, periods: tuple[int | None, ...]) -> None:
        self.dice = dice = random.Random(seed)
        self.world = World()
        for number in range(dice.choice((1, 2, 3))):
            key = f"ns/p{number}"
            memory = dice.choice((None, 2.0))
            self.world.pods[key] = a_pod(
                key, namespace="ns", base_model="tiny", slots=dice.choice((1, 2, 3)), memory=memory, max_rank=64
            )
        names = NAMES[: dice.choice((2, 4, 6))]
        self.resources = [self._resource(age, name) for age, name in enumerate(names)]
        self.sources = {
            one.key: a_source(one, found(one.name, size=dice.choice((1, 1, 2, 3)) * GIB // 2)) for one in self.resources
        }
        self.periods = {name: dice.choice(periods) for name in names}
        self.last: dict[tuple[str, str], float] = {}
        self.idle: set[str] = set()
        self.off = {f"{r.key}/{r.name}" for r in self.resources if r.spec and not r.spec.deployment_config.replicas}
        self.now = 1_800_000_000

    def _resource(self, age: int, name: str) -> Resource:
        dice = self.dice
        deployment = {
            "loadOnStartup": dice.random() < 0.25,
            "replicas": dice.choice((0, 1, 1, 1, 2)),
            "replicaPolicy": dice.choice(("Fixed", "Fixed", "Fixed", "AllPods", "Auto")),
        }
        scheduling = {
            "priority": dice.choice((0, 0, 0, 5)),
            "preemptionPolicy": dice.choice(("LowerPriority", "LowerPriority", "None")),
        }
        spec = {"baseModel": "tiny", "deploymentConfig": deployment, "schedulingConfig": scheduling}
        return a_resource(name, spec=spec, created=f"2026-01-01T00:00:{age:02}Z")

    def ask(self) -> None:
        """Time passes, and those are asked for whose turn it is."""
        self.now += ROUND_SECONDS
        for name, period in self.periods.items():
            if period is not None and self.now % period < ROUND_SECONDS:
                self.last["ns", name] = self.now
        use = Use(dict(self.last), self.now, WANTED_SECONDS)
        made = desired(self.resources, self.sources, None, use)
        self.world.adapters = {key: wanted.adapter for key, wanted in made.adapters.items()}
        self.idle = {
            key
            for key, wanted in made.adapters.items()
            if made.resources[wanted.resource].on_demand and not use.wants(("ns", wanted.adapter.name))
        }

    def come_to_rest(self, check: Callable[[Plan], None]) -> Plan:
        for _ in range(30):
            made = plan(self.world.snapshot)
            check(made)
            self.world.begin_all(made)
            busy = self.world.in_flight()
            self.world.end_all()
            if not made.actions and not busy:
                return made
        raise AssertionError(f"the same requests move things for ever: {made.actions}")

    def check(self, made: Plan) -> None:
        """Nobody who is wanted goes for one of the same or a lower priority, and nobody comes who is not wanted, or
        goes while nobody wants the room."""
        adapters = self.world.adapters
        for action in made.actions:
            if isinstance(action, Load):
                assert action.adapter not in self.idle
                continue
            left = adapters[action.adapter or ""]
            assert action.adapter not in self.idle - self.off or action.cause is UnloadCause.PREEMPTED
            if action.cause is UnloadCause.PREEMPTED:
                other, follows_demand = adapters[action.on_behalf_of or ""], left.replica_policy is ReplicaPolicy.AUTO
                assert action.adapter in self.idle or left.priority < other.priority or follows_demand

    def assert_who_is_wanted_has_what_there_is(self, made: Plan) -> None:
        """At rest, nobody is refused where only those hold the room whom nobody uses."""
        for key in made.missing:
            adapter = self.world.adapters[key]
            for pod in self.world.pods.values():
                firm = [one for one in pod.residents if not self.world.adapters[one.adapter or ""].idle]
                size = sum(one.bytes for one in firm) + adapter.bytes
                room = len(firm) < pod.host_slots and (pod.memory_bytes is None or size <= pod.memory_bytes)
                assert pod.key in made.assignments[key] or not room


@given(seed=st.integers(0, 2**32))
@settings(max_examples=25, deadline=None)
def test_whoever_is_asked_for_comes_where_there_is_room_or_disuse(seed: int) -> None:
    life = Life(seed, ALWAYS_ASKED + SELDOM_ASKED)
    for _ in range(60):
        life.ask()
        life.assert_who_is_wanted_has_what_there_is(life.come_to_rest(life.check))


@given(seed=st.integers(0, 2**32))
@settings(max_examples=25, deadline=None)
def test_requests_for_more_than_there_is_room_for_do_not_push_each_other_out(seed: int) -> None:
    life = Life(seed, ALWAYS_ASKED)
    for _ in range(20):
        life.ask()
        life.come_to_rest(life.check)
    for _ in range(20):
        life.ask()
        assert not plan(life.world.snapshot).actions
