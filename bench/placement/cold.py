"""Empty fleets, placed by every method: what is unplaced, how even the load is, next to the LP's bounds."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from itertools import product

from bench.placement import bounds
from bench.placement.contenders import Contender
from bench.placement.fleets import LARGE, MIDDLE, SMALL, Binding, Replicas, Shape, build
from bench.placement.quality import quality
from bench.placement.records import Record, record

ZIPF = (0.8, 1.0, 1.2, 1.5)
SOLVED_ZIPF, SOLVABLE_PODS, SOLVER_SECONDS = 1.0, 10, 3.0


def shapes(quick: bool) -> Iterator[Shape]:
    """A grid over demand, use, what binds, and kinds of pods; coarser for larger fleets, the largest only once."""
    for adapters, pods in (SMALL, MIDDLE):
        large = pods > 10
        for zipf in ZIPF if not quick else (1.0,):
            uses = (0.8, 0.98) if quick or (large and zipf != 1.0) else (0.6, 0.8, 0.9, 0.95, 0.98)
            for use, binding, mixed in product(uses, (Binding.BOTH,) if quick or large else Binding, (False, True)):
                if not (large and quick and mixed):
                    yield Shape(adapters, pods, zipf, use, binding, mixed)
        yield Shape(adapters, pods, 0.0, 0.9, replicas=Replicas.FEW)
        yield Shape(adapters, pods, 1.0, 0.8, replicas=Replicas.FEW)
        yield Shape(adapters, pods, 1.2, 0.6, replicas=Replicas.AUTO)
    if not quick:
        yield Shape(*LARGE, 1.0, 0.8)


def measure(methods: tuple[Contender, ...], quick: bool) -> Iterator[Record]:
    """`bound`: the least largest load possible, None if not all fit. `least_missing`: replicas that lack in any case.
    Both None where the library chooses how many replicas there are. On small fleets an integer program is asked too:
    `solver_missing`, `solver_largest_load` are the best that it found in its time."""
    for shape in shapes(quick):
        fleet = build(shape)
        auto = shape.replicas is Replicas.AUTO
        bound = math.inf if auto else bounds.least_largest_load(fleet)
        least_missing = None if auto else bounds.fewest_missing(fleet)
        solver: dict[str, float | None] = {}
        if least_missing is not None and shape.pods <= SOLVABLE_PODS and shape.zipf == SOLVED_ZIPF and not quick:
            found, proven = bounds.whole_fewest_missing(fleet, SOLVER_SECONDS)
            least_missing = max(least_missing, proven)
            solver["solver_missing"] = found
            if shape.use >= 0.9 and shape.binding is Binding.BOTH:
                solver["solver_largest_load"], _ = bounds.whole_largest_load(fleet, SOLVER_SECONDS)
        for method in methods:
            if len(fleet.adapters) > method.most_replicas:
                continue
            started = time.process_time()
            outcome = method.advance(fleet, {})
            yield record(
                "cold", shape, method.name, quality(fleet, outcome.assignment),
                seconds=time.process_time() - started, rounds=outcome.rounds, settled=outcome.settled,
                over_limit_on_the_way=outcome.over_limit, least_missing=least_missing,
                bound=None if bound == math.inf else bound,
                loads=outcome.loads, replicas_wanted=sum(adapter.replicas for adapter in fleet.adapters), **solver,
            )  # fmt: skip
