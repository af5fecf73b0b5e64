"""GDSF (greedy dual size frequency): what is cheap to fetch again for the bytes it takes, and seldom asked for, goes.

After Cherkasova, "Improving WWW Proxies Performance with Greedy-Dual-Size-Frequency Caching Policy" (HPL-98-69). An
entry is worth L + frequency · cost / size, where L is the worth of the last one that had to go at the time of its last
use: so that what was worth much and is not asked for any more ages.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import replace
from math import inf

from lora_operator.cache.entry import Entry
from lora_operator.cache.policies.base import Memory, take

MOST_STEPS = 4096


# What is assumed of a network where nothing was measured yet.
SECONDS_PER_BYTE = 1e-8


def load_costs(entries: Sequence[Entry]) -> Callable[[Entry], float]:
    """Seconds to fetch an entry; where nobody measured them, what the others took per byte."""
    measured = [entry for entry in entries if entry.load_seconds > 0]
    size = sum(entry.size_bytes for entry in measured)
    rate = sum(entry.load_seconds for entry in measured) / size if size else SECONDS_PER_BYTE
    return lambda entry: entry.load_seconds or entry.size_bytes * rate


class Gdsf:
    """`cost(entry)` is what it takes to get it back, in any unit; by default the seconds of the last fetch."""

    name = "gdsf"

    def __init__(self, cost: Callable[[Entry], float] | None = None) -> None:
        self._cost = cost

    def choose(
        self, entries: Sequence[Entry], need_bytes: int, now: float, memory: Memory
    ) -> tuple[tuple[Entry, ...], Memory]:
        steps = memory.inflation
        cost = self._cost or load_costs(entries)
        worth = {
            entry.key: _step(steps, entry.last_used) + (entry.hits + 1) * cost(entry) / max(entry.size_bytes, 1)
            for entry in entries
        }
        ordered = sorted(entries, key=lambda entry: (worth[entry.key], entry.last_used, entry.key))
        taken = take(ordered, need_bytes)
        if taken:
            value = max(worth[taken[-1].key], steps[-1][1] if steps else 0.0)
            steps = (*(step for step in steps if step[0] < now), (now, value))
            oldest = min((entry.last_used for entry in entries), default=now)
            steps = steps[max(bisect_right(steps, (oldest, inf)) - 1, 0) :][-MOST_STEPS:]
        return taken, replace(memory, inflation=steps)


def _step(steps: Sequence[tuple[float, float]], at: float) -> float:
    index = bisect_right(steps, (at, inf))
    return steps[index - 1][1] if index else 0.0
