"""What no policy can beat, not even one that knows the future: PFOO-L.

After Berger, Beckmann and Harchol-Balter, "Practical Bounds on Optimal Caching with Variable Object Sizes" (SIGMETRICS
2018). To hit at an ask, the item has to lie in the cache ever since it was asked for before: its size times the number
of asks in between. A cache has its size times the number of asks in all; PFOO-L spends that on the intervals that bring
most for what they take, and does not care whether they overlap too much at some moment. So it hits at least as often as
the optimum.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from bench.cache.tally import Tally
from bench.cache.traces import Item, Trace


def pfoo_l(trace: Trace, budget_bytes: int) -> Tally:
    """The least that can be missed, for each currency on its own."""
    return Tally(
        least_missed(trace, budget_bytes, lambda item: 1.0),
        least_missed(trace, budget_bytes, lambda item: float(item.size_bytes)),
        least_missed(trace, budget_bytes, lambda item: item.load_seconds),
    )


def least_missed(trace: Trace, budget_bytes: int, worth: Callable[[Item], float]) -> float:
    """A lower bound of the share of `worth` that is missed, for any cache of that size."""
    asked = sum(worth(trace.items[index]) for _, index in trace.asks)
    left = float(budget_bytes) * max(len(trace.asks) - 1, 0)
    hit = 0.0
    for room, value in sorted(_intervals(trace, budget_bytes, worth), key=lambda one: one[0] / one[1]):
        if room > left:
            hit += value * left / room  # a part of an interval brings nothing, but this is a bound
            break
        left -= room
        hit += value
    return 1.0 - hit / asked


def _intervals(trace: Trace, budget_bytes: int, worth: Callable[[Item], float]) -> Iterable[tuple[float, float]]:
    """(bytes times asks, worth of the hit) for every ask that could be a hit."""
    before: dict[int, int] = {}
    for at, (_, index) in enumerate(trace.asks):
        item = trace.items[index]
        if index in before and item.size_bytes <= budget_bytes:
            yield float(item.size_bytes) * (at - before[index]), worth(item)
        before[index] = at
