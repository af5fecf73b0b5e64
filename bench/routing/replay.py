"""Plays requests through a fleet of simulated engines, each sent where a policy says."""

from __future__ import annotations

import heapq
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from bench.figures import percentile
from bench.routing.demand import Request
from bench.routing.engine import Engine, Limits
from lora_scheduler.routing import Index, Picked, RoutingRequest, Rules, pick

WARM_UP = 0.25  # of the time: what happens then is not counted


@dataclass(frozen=True, slots=True)
class Setting:
    """`may_load`: requests may go where their adapter has to be loaded first. `scrape_seconds`: how often metrics are
    read; `told`: whether the router hears when a request has ended."""

    pods: int
    limits: Limits = field(default_factory=Limits)
    may_load: bool = True
    scrape_seconds: float = 1.0
    told: bool = False

    @property
    def pod_names(self) -> list[str]:
        return [f"pod-{number}" for number in range(self.pods)]


@dataclass(frozen=True, slots=True)
class Outcome:
    """`warm`: of the picks when a warm pod existed, the share that went to one. `imbalance`: most ÷ mean of the
    requests that pods had on the average. `wait_*`: seconds until served first. `spills`: picks that named a pod for
    another replica."""

    requests: int
    warm: float
    imbalance: float
    loads: int
    spills: int
    wait_mean: float
    wait_p50: float
    wait_p99: float
    stalled: float  # the share of time in which engines stood still for loads


def replay(
    requests: Sequence[Request], setting: Setting, rules: Rules, placed: Mapping[str, Sequence[str]] | None = None
) -> Outcome:
    """`placed`: pod -> what it holds from the beginning on."""
    play = _Play(setting, rules, placed or {}, {request.adapter for request in requests})
    end = requests[-1].at
    measured_from = end * WARM_UP
    scrape, measuring = 0.0, False
    for request in requests:
        while scrape <= request.at:
            play.pass_time(scrape)
            play.scrape(scrape)
            scrape += setting.scrape_seconds
        play.pass_time(request.at)
        if not measuring and request.at >= measured_from:
            measuring = True
            play.begin_to_count()
        play.send(request)
    play.pass_time(end)
    return play.outcome(end - measured_from, measured_from)


class _Play:
    def __init__(self, setting: Setting, rules: Rules, placed: Mapping[str, Sequence[str]], adapters: set[str]) -> None:
        self.setting, self.rules = setting, rules
        self.chance = random.Random(0)
        self.engines = {pod: Engine(pod, setting.limits) for pod in setting.pod_names}
        self.index = Index()
        for adapter in sorted(adapters):
            self.index.know(adapter, "llama")
        for pod, engine in self.engines.items():
            for adapter in placed.get(pod, ()):
                engine.resident[adapter] = None
            self.index.put(engine.endpoint(), now=0.0)
        self.events: list[tuple[float, str]] = []  # a heap; those that are not due any more have no effect
        self.due: dict[str, float] = {}
        self.begin_to_count()

    def begin_to_count(self) -> None:
        self.picks = self.warm_exists = self.warm = self.spills = 0
        for engine in self.engines.values():
            engine.loads, engine.request_seconds, engine.stalled_seconds = 0, 0.0, 0.0

    def pass_time(self, now: float) -> None:
        while self.events and self.events[0][0] <= now:
            at, pod = heapq.heappop(self.events)
            if self.due.get(pod) == at:
                engine = self.engines[pod]
                self._advance(engine, at)

    def scrape(self, now: float) -> None:
        for pod, engine in self.engines.items():
            self._advance(engine, now)
            self.index.observe(pod, engine.metrics(), now=now)

    def send(self, request: Request) -> None:
        now, ask = request.at, RoutingRequest((request.adapter,), may_load=self.setting.may_load)
        exists = bool(self.index.holding(request.adapter))
        answer = pick(self.index, ask, now=now, chance=self.chance, rules=self.rules)
        if not isinstance(answer, Picked):  # nothing may go anywhere: it queues at the least busy pod
            engine = min(self.engines.values(), key=lambda engine: engine.requests)
        else:
            engine = self.engines[answer.endpoint.pod]
            self.warm += exists and answer.warm
            self.spills += answer.spill is not None
        self.picks += 1
        self.warm_exists += exists
        self.index.sent(engine.pod, now=now)
        self._advance(engine, now, request)

    def _advance(self, engine: Engine, now: float, request: Request | None = None) -> None:
        """To this time; then a request comes in, if there is one."""
        before = engine.requests
        changed = engine.pass_time(now)
        ended = before - engine.requests
        if request is not None:
            changed |= engine.take(request)
        if changed:
            self.index.put(engine.endpoint(), now=now)
        if self.setting.told:
            for _ in range(ended):
                self.index.done(engine.pod, now=now)
        event = engine.next_event()
        if event < float("inf") and self.due.get(engine.pod) != event:
            self.due[engine.pod] = event
            heapq.heappush(self.events, (event, engine.pod))

    def outcome(self, seconds: float, measured_from: float) -> Outcome:
        for engine in self.engines.values():
            engine.pass_time(max(one.now for one in self.engines.values()))
        loads = [engine.request_seconds for engine in self.engines.values()]
        waits = [
            at - request.at for engine in self.engines.values() for request, at in engine.begun
            if request.at >= measured_from
        ]  # fmt: skip
        return Outcome(
            requests=self.picks,
            warm=self.warm / max(1, self.warm_exists),
            imbalance=max(loads) * len(loads) / sum(loads),
            loads=sum(engine.loads for engine in self.engines.values()),
            spills=self.spills,
            wait_mean=sum(waits) / len(waits),
            wait_p50=percentile(waits, 50),
            wait_p99=percentile(waits, 99),
            stalled=sum(engine.stalled_seconds for engine in self.engines.values()) / seconds / len(self.engines),
        )
