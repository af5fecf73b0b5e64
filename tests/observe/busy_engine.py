"""An engine whose requests come at random and stay for a while, as its metrics page tells of them."""

from __future__ import annotations

import heapq
import random
from collections.abc import Iterator, Mapping

from lora_operator.engines.shares import BASE
from lora_operator.vllm.metrics import EngineMetrics, Moment

EPOCH = 1.79e9  # the engine's clock is not ours


def pages(
    rates: Mapping[str, float], stay_seconds: float, every_seconds: float, seconds: float, seed: int = 1
) -> Iterator[tuple[float, EngineMetrics, dict[str, int]]]:
    """(time, page, requests finished so far by adapter) at each look; BASE stands for the base model."""
    dice = random.Random(seed)
    events: list[tuple[float, int, str]] = []
    for name, rate in rates.items():
        at = dice.expovariate(rate)
        while at < seconds:
            heapq.heappush(events, (at, 1, name))
            heapq.heappush(events, (at + dice.expovariate(1 / stay_seconds), -1, name))
            at += dice.expovariate(rate)
    inside = dict.fromkeys(rates, 0)
    finished = dict.fromkeys(rates, 0)
    moments: dict[frozenset[str], float] = {}

    def note(at: float) -> None:
        if any(inside.values()) or moments:
            moments[frozenset(name for name, count in inside.items() if count and name != BASE)] = EPOCH + at

    look = every_seconds
    while look < seconds:
        while events and events[0][0] <= look:
            at, change, name = heapq.heappop(events)
            note(at)
            inside[name] += change
            finished[name] += change < 0
            note(at)
        if any(inside.values()):
            note(look)
        newest = max(moments.items(), key=lambda item: item[1], default=(frozenset[str](), 0.0))
        page = EngineMetrics(
            requests_running=sum(inside.values()),
            requests_waiting=0,
            active_adapters=newest[0],
            requests_finished=float(sum(finished.values())),
            moments=tuple(Moment(at, names) for names, at in moments.items()),
        )
        yield look, page, dict(finished)
        look += every_seconds * dice.uniform(0.9, 1.1)
