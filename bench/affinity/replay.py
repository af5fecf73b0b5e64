"""Plays a trace: requests for what is loaded use it, all others wait for a load."""

from __future__ import annotations

import heapq
from collections import deque

from bench.affinity.choosers import Chooser, News
from bench.affinity.fleet import Counts, Fleet
from bench.affinity.traces import Trace

ON_DEMAND_SECONDS = 300.0  # as the operator's flag: so long after its last request it is in use


def replay(trace: Trace, fleet: Fleet, chooser: Chooser) -> Counts:
    """What happened."""
    used: dict[int, float] = {}
    in_use: set[int] = set()
    falling: deque[tuple[float, int]] = deque()  # when it falls idle if nobody asks again
    waiting: dict[int, float] = {}  # since when
    under_way: list[tuple[float, str, int]] = []  # when it ends, on which pod, what
    pods: set[str] = set()
    adapters: set[int] = set()
    asks = iter(trace.asks)
    ask = next(asks, None)
    while ask is not None or waiting:
        times = [at for at in (ask[0] if ask else None, under_way[0][0] if under_way else None) if at is not None]
        if not times:
            break  # what waits now waits for ever
        now = min(times)
        while under_way and under_way[0][0] <= now:
            _, key, number = heapq.heappop(under_way)
            fleet.settle(fleet.pods[key], number, now)
            pods.add(key)
            if number in waiting and number in fleet.pods[key].loaded:
                fleet.counts.starts.append(now - waiting.pop(number))
        while ask is not None and ask[0] <= now:
            number = ask[1]
            used[number] = now
            if number not in in_use:
                in_use.add(number)
                adapters.add(number)
            falling.append((now + ON_DEMAND_SECONDS, number))
            if not fleet.is_loaded(number):
                waiting.setdefault(number, now)
            ask = next(asks, None)
        while falling and falling[0][0] <= now:
            _, number = falling.popleft()
            if number in in_use and used[number] + ON_DEMAND_SECONDS <= now and number not in waiting:
                in_use.remove(number)
                adapters.add(number)
        lacking = {number for number in waiting if number not in fleet.where}
        if not lacking and not pods:
            continue
        busy = [len(in_use & (pod.loaded | pod.loading.keys())) for pod in fleet.pods.values()]
        fleet.counts.imbalance.append(max(busy) * len(busy) / max(sum(busy), 1))
        loads, unloads = chooser.decide(fleet, News(lacking, in_use, used, pods, adapters))
        pods, adapters = set(), set()
        for end, (pod, number) in [
            *((fleet.unload(pod, number, now), (pod, number)) for pod, number in unloads),
            *((fleet.load(pod, number, now), (pod, number)) for pod, number in loads),
        ]:
            heapq.heappush(under_way, (end, pod.key, number))
            pods.add(pod.key)
            adapters.add(number)
    fleet.counts.unanswered = len(waiting)
    return fleet.counts
