"""What a pick costs: processor time of the thread, so that others on the machine count little."""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Iterator

from bench.figures import percentile
from bench.routing.measure import POLICIES, Record
from lora_scheduler.routing import Endpoint, EngineLoad, Holding, Index, RoutingRequest, Rules, pick

TIMES = "time of a pick"
PODS, ADAPTERS, COPIES_PER_POD, HOST_SLOTS, GPU_SLOTS = 1_000, 10_000, 16, 20, 8
ROUNDS = 5


def measure(picks: int) -> Iterator[Record]:
    """`seconds_p50`, `seconds_p99` of single picks in the quietest of five rounds, as others on the machine spoil
    caches; `seconds_p99_worst` of the others. Adapters are asked for by Zipf."""
    rng = random.Random("timings")
    index = Index()
    names = [f"adapter-{number}" for number in range(ADAPTERS)]
    popular = [(number + 1) ** -1.0 for number in range(ADAPTERS)]
    for pod in range(PODS):
        own = set(rng.choices(names, popular, k=COPIES_PER_POD)) | {names[(pod * 10 + n) % ADAPTERS] for n in range(10)}
        held = sorted(own)[:COPIES_PER_POD]
        holdings = tuple(Holding(name, name) for name in held)
        active = frozenset(rng.sample(held, rng.randrange(GPU_SLOTS)))
        load = EngineLoad(0.0, running=rng.randrange(16), waiting=rng.randrange(3), running_adapters=active)
        index.put(
            Endpoint(f"pod-{pod}", "", "llama", holdings, host_slots=HOST_SLOTS, gpu_slots=GPU_SLOTS, load=load),
            now=0.0,
        )
    for name in names:
        index.know(name, "llama")
    for policy in POLICIES:
        for may_load in (False, True):
            rules, rounds = Rules(policy), []
            for turn in range(ROUNDS):
                asks = [
                    RoutingRequest((name,), may_load=may_load)
                    for name in rng.choices(names, popular, k=picks // ROUNDS)
                ]
                rounds.append(_round(index, asks, rules, rng, now=turn / ROUNDS))
            yield {
                "section": TIMES, "policy": policy, "may_load": may_load, "pods": PODS, "adapters": ADAPTERS,
                "picks": picks, "seconds_p50": min(percentile(taken, 50) for taken in rounds),
                "seconds_p99": min(percentile(taken, 99) for taken in rounds),
                "seconds_p99_worst": max(percentile(taken, 99) for taken in rounds),
            }  # fmt: skip


def _round(index: Index, asks: list[RoutingRequest], rules: Rules, rng: random.Random, now: float) -> list[float]:
    taken = []
    gc.collect()
    for ask in asks:
        started = time.thread_time_ns()
        pick(index, ask, now=now, chance=rng, rules=rules)
        taken.append((time.thread_time_ns() - started) / 1e9)
    return taken
