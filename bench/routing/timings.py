"""What a pick costs: processor time of the thread, so that others on the machine count little."""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Iterator

from bench.figures import percentile
from bench.routing.measure import POLICIES, Record
from lora_scheduler.routing import Ask, Endpoint, EngineLoad, Holding, Index, Rules, pick

TIMES = "time of a pick"
PODS, ADAPTERS, COPIES_PER_POD, HOST_SLOTS, GPU_SLOTS = 1_000, 10_000, 16, 20, 8


def measure(picks: int) -> Iterator[Record]:
    """`seconds_p50`, `seconds_p99` of single picks, each told to the index as sent; adapters asked for by Zipf."""
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
            rules, taken = Rules(policy), []
            asks = [Ask((name,), may_load=may_load) for name in rng.choices(names, popular, k=picks)]
            gc.collect()
            for number, ask in enumerate(asks):
                now = number / picks
                started = time.thread_time_ns()
                pick(index, ask, now=now, chance=rng, rules=rules)
                taken.append((time.thread_time_ns() - started) / 1e9)
            yield {
                "section": TIMES, "policy": policy, "may_load": may_load, "pods": PODS, "adapters": ADAPTERS,
                "picks": picks, "seconds_p50": percentile(taken, 50), "seconds_p99": percentile(taken, 99),
            }  # fmt: skip
