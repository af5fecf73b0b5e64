"""Ways to choose a pod for a turn of a chat: ours, and what else gateways do."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from bench.gateway.engine import Engine, Turn
from lora_operator.router.entries import Endpoint as PodEndpoint
from lora_operator.router.entries import Entry
from lora_operator.router.prefix_affinity import PrefixAffinity
from lora_operator.router.prompt_blocks import BLOCKS_OF_THOUSAND, MOST_BLOCKS, Prompt
from lora_scheduler.routing import Endpoint, EngineLoad, Holding, Index, Picked, RoutingRequest, Rules, pick

MODEL = "llama"


def key_of(pod: int) -> str:
    """In the index; no namespace is before the slash."""
    return f"/{pod}"


@dataclass(slots=True)
class Router:
    """What every one of them may know. `placed`: adapter -> pods; empty where adapters are loaded as they are asked."""

    engines: Sequence[Engine]
    placed: Mapping[int, Sequence[int]]
    rules: Rules = field(default_factory=Rules)
    chance: random.Random = field(default_factory=lambda: random.Random(0))
    index: Index = field(default_factory=Index)
    prefixes: PrefixAffinity = field(default_factory=PrefixAffinity)
    entries: dict[int, Entry] = field(default_factory=dict)
    turn: int = 0

    def __post_init__(self) -> None:
        for adapter, pods in self.placed.items():
            ends = tuple(PodEndpoint(str(pod), "", str(adapter)) for pod in pods)
            self.entries[adapter] = Entry("", str(adapter), MODEL, str(adapter), ends)
        held: dict[int, list[Holding]] = {pod: [] for pod in range(len(self.engines))}
        for adapter, pods in self.placed.items():
            for pod in pods:
                held[pod].append(Holding(str(adapter), str(adapter)))
        for pod, holdings in held.items():
            room = self.engines[pod].costs.adapters_held
            self.index.put(Endpoint(key_of(pod), "", MODEL, tuple(holdings), host_slots=room), now=0.0)

    def scrape(self, now: float) -> None:
        """What the engines' metrics say."""
        for pod, engine in enumerate(self.engines):
            active = frozenset(str(adapter) for adapter in engine.active)
            load = EngineLoad(
                now, running=len(engine.computing) + len(engine.answering), waiting=len(engine.waiting),
                running_adapters=active, max_loras=engine.costs.adapters_in_batch,
            )  # fmt: skip
            self.index.observe(key_of(pod), load, now=now)

    def send(self, way: Way, turn: Turn) -> int:
        pod = way(self, turn)
        self.index.sent(key_of(pod), now=turn.at)
        return pod

    def picked(self, ask: RoutingRequest, policy: str, now: float) -> int:
        answer = pick(self.index, ask, now=now, chance=self.chance, rules=replace(self.rules, policy=policy))
        assert isinstance(answer, Picked)
        return int(answer.endpoint.pod.removeprefix("/"))


Way = Callable[[Router, Turn], int]


def at_random(router: Router, turn: Turn) -> int:
    return router.chance.randrange(len(router.engines))


def round_robin(router: Router, turn: Turn) -> int:
    router.turn += 1
    return router.turn % len(router.engines)


def least_request(router: Router, turn: Turn) -> int:
    return router.picked(RoutingRequest(base_model=MODEL), "least-request", turn.at)


def resident(router: Router, turn: Turn) -> int:
    return router.picked(RoutingRequest((str(turn.adapter),)), "lora-affinity", turn.at)


def prefix_and_resident(router: Router, turn: Turn) -> int:
    entry = router.entries[turn.adapter]
    blocks = tuple(turn.blocks[:MOST_BLOCKS])
    prompt = Prompt(blocks, thousands=len(blocks) / BLOCKS_OF_THOUSAND)
    cached = router.prefixes.saved(entry, prompt, turn.at)
    ask = RoutingRequest((str(turn.adapter),), cached=cached)
    pod = router.picked(ask, "lora-affinity", turn.at)
    to = next(one for one in entry.endpoints if one.pod == str(pod))
    router.prefixes.sent(entry, to, prompt, turn.at)
    return pod


BLIND: Mapping[str, Way] = {"random": at_random, "round robin": round_robin, "least request": least_request}
OURS = "residency and prefixes"
AWARE: Mapping[str, Way] = {"residency only": resident, OURS: prefix_and_resident}
