"""What a store holds and how well that serves, as plain values."""

from __future__ import annotations

from dataclasses import dataclass

from lora_operator.cache.history import Counts


@dataclass(frozen=True, slots=True)
class Statistics:
    """`total` counts for all processes since the store was made, `process` for this one since its start.

    `oldest_used_at` is the last use of what was not used the longest, Unix time; None for an empty store. `in_use`,
    `pinned` and `unused_prefetched` are numbers of versions. `fetching_bytes` are reserved for what is under way,
    `left_over_bytes` wait for a fetch to be resumed.
    """

    versions: int
    used_bytes: int
    budget_bytes: int | None
    fetching_bytes: int
    left_over_bytes: int
    in_use: int
    pinned: int
    unused_prefetched: int
    oldest_used_at: float | None
    total: Counts
    process: Counts
