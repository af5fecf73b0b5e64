"""What a cache missed on a trace, in each of the three currencies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.cache.traces import Trace


@dataclass(frozen=True, slots=True)
class Tally:
    """Shares of what was asked for: asks, bytes, and seconds of loading. `evictions` and `thrash` are numbers, the
    latter of evictions whose version was fetched again within an hour; None where the method does not evict."""

    object_miss: float
    byte_miss: float
    seconds_miss: float
    evictions: int | None = None
    thrash: int | None = None


def tally(trace: Trace, hits: Sequence[bool], evictions: int | None = None, thrash: int | None = None) -> Tally:
    """From the outcome of every ask."""
    missed = [trace.items[index] for (_, index), hit in zip(trace.asks, hits, strict=True) if not hit]
    asked = [trace.items[index] for _, index in trace.asks]
    return Tally(
        len(missed) / len(asked),
        sum(item.size_bytes for item in missed) / sum(item.size_bytes for item in asked),
        sum(item.load_seconds for item in missed) / sum(item.load_seconds for item in asked),
        evictions,
        thrash,
    )
