"""More wanted than there is room for, at several priorities: what is served, next to the most that an LP serves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from bench.placement import bounds
from bench.placement.contenders import Contender
from bench.placement.fleets import MIDDLE, SMALL, Binding, Shape, build
from bench.placement.quality import quality
from bench.placement.records import Record, record

PRIORITIES = 4
WEIGHT = 10.0  # what a request of one priority is worth in requests of the next lower one


def weight(priority: int) -> float:
    return WEIGHT**priority


def shapes(quick: bool) -> Iterator[Shape]:
    """From a tenth to half too much."""
    for adapters, pods in (SMALL, MIDDLE):
        large = pods > 10
        for zipf in (1.0,) if quick else (0.8, 1.2):
            for use in (1.3,) if quick else (1.1, 1.3, 1.5):
                for binding in (Binding.BOTH,) if quick or large else tuple(Binding):
                    for mixed in (False, True):
                        yield Shape(adapters, pods, zipf, use, binding, mixed, priorities=PRIORITIES)
        yield Shape(adapters, pods, 1.0, 1.3, priorities=1)


def measure(methods: tuple[Contender, ...], quick: bool) -> Iterator[Record]:
    """`of_bound`: weighted demand served ÷ the LP's; `of_strict_bound`: ÷ the LP's when each priority, from the
    highest on, gets all it can before the next gets anything, and in each one first replicas before further ones."""
    for shape in shapes(quick):
        fleet = build(shape)
        most = bounds.most_demand(fleet, weight)
        strict = bounds.most_demand_strictly(fleet)
        most_strictly = sum(weight(priority) * demand for priority, demand in strict.items())
        for method in methods:
            outcome = method.advance(fleet, {})
            found = quality(fleet, outcome.assignment)
            served = worth(found.served)
            yield record(
                "oversubscribed", shape, method.name, found, of_bound=served / most,
                of_strict_bound=served / most_strictly, rounds=outcome.rounds, settled=outcome.settled,
                over_limit_on_the_way=outcome.over_limit,
            )  # fmt: skip


def worth(served: Mapping[int, float]) -> float:
    """Demand weighted by priority."""
    return sum(weight(priority) * demand for priority, demand in served.items())
