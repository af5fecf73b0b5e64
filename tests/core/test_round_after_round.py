"""What is kept from one round to the next changes nothing: it is what would be worked out from scratch."""

from __future__ import annotations

import random
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import pytest

from lora_operator.agent_api.wire import EntryBody, ListBody
from lora_operator.api.usage_record import Use
from lora_operator.desired.adapters import desired
from lora_operator.desired.expand import Expansions
from lora_operator.engines.liveness import EngineView, instance_of
from lora_operator.informers.holdings import Holdings
from lora_operator.informers.published_status import NO_STATUS
from lora_operator.informers.records import PodRecord, Resource
from lora_operator.informers.sources import SourceView
from lora_operator.planning.agent_disks import AgentDisks
from lora_operator.planning.inflight import Effect, Failures, Ledger, Stage
from lora_operator.planning.pod_selection import Participation
from lora_operator.planning.snapshot import Observed, take_snapshot
from lora_operator.planning.snapshots import Snapshots
from lora_operator.sources import SourceError
from lora_operator.status.inputs import Moment, StatusInputs, status_inputs
from lora_operator.vllm.engine_state import EngineState
from lora_scheduler import Planner, Policy, plan
from tests.core.builders import V1, V2, a_failing_source, a_pod, a_resource, a_source, foreign, found, ours

NAMES = ("a", "b", "c", "tiny")
PODS = ("p0", "p1", "p2")
NEXT = {Stage.FETCHING: Stage.LOADING, Stage.LOADING: Stage.UNANSWERED, Stage.WITHDRAWING: Stage.UNLOADING}
AWAY = SourceError("Away", "the source is away", retryable=True)


class World:
    """Everything that a round looks at, changed at random."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.resources: dict[str, Resource] = {}
        self.sources: dict[str, SourceView] = {}
        self.pods: dict[str, PodRecord] = {}
        self.views: dict[str, EngineView] = {}
        self.sizes: dict[tuple[str, str], tuple[int, int]] = {}
        self.demands: dict[tuple[str, str], float] | None = None
        self.problems: dict[str, str] = {}
        self.asked: dict[tuple[str, str], float] = {}
        self.leaving: frozenset[str] = frozenset()
        self.disks = AgentDisks()
        self.holdings, self.told = Holdings(), set[str]()
        self.ledger, self.failures, self.now = Ledger(), Failures(1.0, 300.0), 0.0
        self.events = (
            self.some_resource, self.some_status, self.some_source, self.some_pod, self.some_view, self.some_view,
            self.some_effect, self.some_effect, self.some_failure, self.some_demand, self.some_size, self.time_passes,
            self.something_goes, self.some_disk,
        )  # fmt: skip
        for name in PODS:
            self.pods[f"ns/{name}"] = a_pod(name)
            self.some_view(f"ns/{name}")
        for _ in range(4):
            self.some_resource()

    def some_disk(self) -> None:
        record = self.pods.get(f"ns/{self.dice.choice(PODS)}")
        if record is not None:
            entries = [
                EntryBody(name=name, fingerprint=self.dice.choice("0123") * 16, state="Present", size_bytes=1,
                          done_bytes=1)
                for name in self.dice.sample("abcd", self.dice.choice((0, 2)))
            ]  # fmt: skip
            listed = ListBody(entries=tuple(entries), used_bytes=2, budget_bytes=self.dice.choice((None, 1 << 40)))
            self.disks.listed(record, listed)

    def happens(self) -> str:
        event = self.dice.choice(self.events)
        event()
        return event.__name__

    def some_resource(self) -> None:
        dice, name = self.dice, f"r{self.dice.randrange(4)}"
        deployment: dict[str, Any] = {"replicas": dice.randrange(3), "loadOnStartup": dice.random() < 0.7}
        if dice.random() < 0.3:
            deployment["replicaPolicy"] = dice.choice(("AllPods", "Auto"))
        if dice.random() < 0.2:
            deployment["podSelector"] = {"matchLabels": {"tier": "gold"}}
        before = self.resources.get(f"ns/{name}")
        going = {"deletionTimestamp": "2026-01-01T00:00:01Z"} if dice.random() < 0.2 else {}
        resource = a_resource(
            name, created=f"2026-01-01T00:00:0{dice.randrange(2)}Z", spec={"deploymentConfig": deployment},
            status=before.status if before is not None else {}, generation=dice.randrange(9), **going,
        )  # fmt: skip
        self.resources[resource.key] = resource
        if resource.key not in self.sources:
            self.some_source(resource.key)

    def some_status(self) -> None:
        dice, key = self.dice, self.some(self.resources)
        names = dice.sample(NAMES, dice.randrange(3))
        status = {
            "observedGeneration": self.resources[key].generation,
            "adapters": [{"name": name, "fingerprint": dice.choice((V1, V2)), "replicas": 2} for name in names],
            "podAssignments": [{"pod": pod, "adapters": names} for pod in dice.sample(PODS, dice.randrange(3))],
        }
        if dice.random() < 0.2:
            status |= {"truncated": True, "summary": "0/9"}  # it has no room for all of them
        self.resources[key] = replace(self.resources[key], status=status)

    def some_source(self, key: str = "") -> None:
        dice, key = self.dice, key or self.some(self.resources)
        resource = self.resources[key]
        if dice.random() < 0.2:
            self.sources[key] = a_failing_source(resource, AWAY)
            return
        featured = ("moe",) if dice.random() < 0.2 else ()
        adapters = [
            found(name, dice.choice((V1, V2)), rank=dice.choice((8, 64)), features=featured)
            for name in dice.sample(NAMES, dice.randrange(4))
        ]
        view = a_source(resource, *adapters)
        self.sources[key] = replace(view, checked=dice.random() < 0.9)

    def some_pod(self) -> None:
        dice, name = self.dice, self.dice.choice(PODS)
        going = {"deletionTimestamp": "2026-01-01T00:00:01Z"} if dice.random() < 0.2 else {}
        record = a_pod(name, annotations=dice.choice(({}, {"max-cpu-loras": "2"}, {"max-loras": "x"})), **going)
        served = dice.choice(({}, {"a": V1}, {"b": "foreign", "*": ""}))
        self.pods[record.key] = replace(record, served=served)
        self.problems = dice.choice(({}, {record.key: "no Secret"}))
        self.leaving = dice.choice((frozenset(), frozenset({record.key})))

    def some_view(self, key: str = "") -> None:
        dice, key = self.dice, key or self.some(self.pods)
        models = [ours(name, dice.choice((V1, V2))) for name in dice.sample(NAMES, dice.randrange(4))]
        models += [foreign("d")] if dice.random() < 0.2 else []
        life = instance_of(self.pods[key]) if dice.random() < 0.9 else "another"
        state = dice.choice((EngineState.UP,) * 4 + tuple(EngineState))
        self.views[key] = EngineView(life, state, dice.choice(("0.32.0", "0.14.0")), tuple(models))

    def some_effect(self) -> None:
        dice, pod = self.dice, self.some(self.pods)
        under_way = list(self.ledger.on(pod))
        if under_way and dice.random() < 0.6:
            effect = dice.choice(under_way)
            match dice.choice(("end", "end", "fetched", "next")):
                case "end":
                    self.ledger.end(effect)
                case "fetched":
                    effect.fetched_percent = dice.choice((25, 50))
                case "next":
                    effect.stage = NEXT.get(effect.stage, effect.stage)
            return
        name, life = dice.choice(NAMES), instance_of(self.pods[pod])
        stage = dice.choice((Stage.FETCHING, Stage.WITHDRAWING))
        self.ledger.begin(Effect(pod, name, stage, f"ns/r{dice.randrange(4)}/{name}", V1, 1000, 8, life))

    def some_failure(self) -> None:
        dice, pod = self.dice, self.some(self.pods)
        wanted = [w.adapter.key for w in desired(self.resources.values(), self.sources).adapters.values()]
        under_way = [effect.adapter for effect in self.ledger.on(pod) if effect.adapter in wanted]
        adapter = dice.choice(under_way or wanted or ["ns/nobody/a"])
        if dice.random() < 0.3:
            self.failures.clear(adapter, V1, pod)
        elif dice.random() < 0.3:
            self.failures.add_death(adapter, V1, "it died", self.now)
        else:
            life = instance_of(self.pods[pod])
            passes = dice.random() < 0.5
            self.failures.add(adapter, V1, pod, life, "No", f"at {self.now}", self.now, False, passes=passes)

    def some_demand(self) -> None:
        known = {("ns", name): self.dice.choice((0.5, 1.0)) for name in self.dice.sample(NAMES, 2)}
        self.demands = self.dice.choice((None, known, known))
        self.asked[("ns", self.dice.choice(NAMES))] = self.now

    def some_size(self) -> None:
        self.sizes[self.dice.choice(NAMES), self.dice.choice((V1, V2))] = (self.dice.randrange(1, 9) * 100, 16)

    def time_passes(self) -> None:
        self.now += self.dice.choice((0.5, 5.0, 100.0))

    def something_goes(self) -> None:
        if self.dice.random() < 0.5 and len(self.resources) > 1:
            key = self.some(self.resources)
            del self.resources[key]
            del self.sources[key]
        elif len(self.pods) > 1:
            key = self.some(self.pods)
            del self.pods[key]
            self.views.pop(key, None)

    def some(self, things: dict[str, Any]) -> str:
        return self.dice.choice(sorted(things))

    def publish(self) -> set[str]:
        """Have the holdings know what statuses say; returns the LoraAdapters of which it is otherwise by now."""
        touched = set()
        for key in self.told - self.resources.keys():
            touched |= self.holdings.set_status(key, NO_STATUS)
        for key, resource in self.resources.items():
            touched |= self.holdings.set_status(key, resource.published)
        self.told = set(self.resources)
        return {key for key, _ in touched}

    def size_of(self, name: str, version: str) -> tuple[int, int] | None:
        return self.sizes.get((name, version))

    @property
    def use(self) -> Use:
        return Use(dict(self.asked), self.now, 30.0)

    @property
    def observed(self) -> Observed:
        return Observed(
            self.pods, self.views, MappingProxyType({}), self.size_of, True,
            self.problems, self.leaving, self.disks.of,
        )  # fmt: skip


@pytest.mark.parametrize("seed", range(60))
def test_what_is_kept_between_rounds_is_what_would_be_worked_out_from_scratch(seed: int) -> None:
    world = World(seed)
    expansions, snapshots = Expansions(world.holdings, world.size_of), Snapshots()
    states, participation = StatusInputs(), Participation()
    planner = Planner(Policy())
    for step in range(60):
        event = world.happens()
        expansions.forget(world.publish())
        given = (list(world.resources.values()), world.sources, world.demands, world.use)
        wanted = expansions.desired(*given)
        assert wanted == desired(*given, sizes=world.size_of), (step, event)
        moment = (wanted, world.observed, world.ledger, world.failures, world.now)
        snapshot = snapshots.take(*moment)
        assert snapshot == take_snapshot(*moment), (step, event)
        made = planner.plan(snapshot)
        assert made.assignments == plan(snapshot).assignments
        seen = Moment(wanted, snapshot, made, world.pods, world.views, world.ledger, world.failures)
        states.update(seen)
        held = world.holdings.of
        inputs = {key: states.of(resource) for key, resource in wanted.resources.items()}
        assert inputs | states.departing(wanted, held) == status_inputs(seen, held), (step, event)
        taking_part = (world.pods.values(), given[0], world.views, world.ledger, world.holdings.pods())
        assert participation.of(*taking_part).pods == Participation().of(*taking_part).pods, (step, event)


def test_a_round_after_which_nothing_has_happened_gives_the_very_same_objects() -> None:
    world = World(1)
    expansions, snapshots, states = Expansions(world.holdings, world.size_of), Snapshots(), StatusInputs()
    resource = a_resource("only")
    world.resources, world.sources = {resource.key: resource}, {resource.key: a_source(resource, found("a"))}

    def a_round() -> tuple[Any, ...]:
        wanted = expansions.desired(world.resources.values(), world.sources, {}, world.use)
        snapshot = snapshots.take(wanted, world.observed, world.ledger, world.failures, world.now)
        made = plan(snapshot)
        states.update(Moment(wanted, snapshot, made, world.pods, world.views, world.ledger, world.failures))
        return wanted, *snapshot.pods, *(states.of(each) for each in wanted.resources.values())

    first, second = a_round(), a_round()
    assert all(one is other for one, other in zip(first, second, strict=True))
