"""What planning costs: processor time of this process, so that others on the machine count little. One core."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from functools import partial

from bench.placement.baselines import BASELINES
from bench.placement.contenders import OURS, populated
from bench.placement.fleets import LARGE, MIDDLE, SMALL, Shape, build
from bench.placement.records import Record, record
from lora_scheduler import plan

SECONDS = 8.0  # how long one figure may be repeated
MOST_RUNS = 30
CROWDED = ((0.98, 1, "cold at 98 % use"), (1.3, 4, "cold at 130 %, 4 priorities"))


def measure(quick: bool) -> Iterator[Record]:
    """`seconds`: all runs of one kind of solve."""
    for adapters, pods in (SMALL, MIDDLE) if quick else (SMALL, MIDDLE, LARGE):
        shape = Shape(adapters, pods, 1.0, 0.8)
        empty = build(shape)
        made = plan(empty)
        full = populated(empty, made.assignments)
        seconds = 0.5 if quick else SECONDS
        yield record("timings", shape, OURS, what="cold", seconds=timed(partial(plan, empty), seconds))
        yield record("timings", shape, OURS, what="steady", seconds=timed(partial(plan, full), seconds))
        for use, priorities, what in CROWDED if (adapters, pods) == LARGE else ():
            crowded = build(Shape(adapters, pods, 1.0, use, priorities=priorities))
            yield record("timings", shape, OURS, what=what, seconds=timed(partial(plan, crowded), seconds))
        for method in BASELINES:
            taken = timed(partial(method.place, empty, {}), seconds / 4)
            yield record("timings", shape, method.name, what="cold", seconds=taken)


def timed(work: Callable[[], object], seconds: float) -> list[float]:
    """Runs until the time or the number of runs is used up, at least two."""
    runs: list[float] = []
    while len(runs) < 2 or (sum(runs) < seconds and len(runs) < MOST_RUNS):
        gc.collect()
        started = time.process_time()
        work()
        runs.append(time.process_time() - started)
    return runs
