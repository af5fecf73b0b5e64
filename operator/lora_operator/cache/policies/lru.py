"""LRU: what was not asked for the longest goes first."""

from __future__ import annotations

from collections.abc import Sequence

from lora_operator.cache.entry import Entry
from lora_operator.cache.policies.base import Memory, take


class Lru:
    name = "lru"

    def choose(
        self, entries: Sequence[Entry], need_bytes: int, now: float, memory: Memory
    ) -> tuple[tuple[Entry, ...], Memory]:
        return take(sorted(entries, key=lambda entry: (entry.last_used, entry.key)), need_bytes), memory
