"""What may not be removed now, and how much of a store that is. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from lora_operator.cache.entry import Entry, Key

InUse = Collection[Key] | None  # None: nobody can tell, so that nothing may go


@dataclass(frozen=True, slots=True)
class Protection:
    """`in_use`: some engine may read it at any time. `recent`: asked for a moment ago, to be loaded."""

    in_use: frozenset[Key]
    recent: frozenset[Key]

    @property
    def keys(self) -> frozenset[Key]:
        """All that may not go; pins are in the entries."""
        return self.in_use | self.recent

    def sums(self, entries: Iterable[Entry]) -> tuple[int, int, int]:
        """Bytes in use, else pinned, else recent."""
        sums = [0, 0, 0]
        for entry in entries:
            if entry.key in self.in_use:
                sums[0] += entry.size_bytes
            elif entry.pinned:
                sums[1] += entry.size_bytes
            elif entry.key in self.recent:
                sums[2] += entry.size_bytes
        return sums[0], sums[1], sums[2]


def protection(
    entries: Collection[Entry], in_use: InUse, leased: Collection[Key], now: float, grace_seconds: float
) -> Protection:
    """`in_use` is what the caller knows of, `leased` what the pods that share the store say."""
    everything = (entry.key for entry in entries) if in_use is None else in_use
    # what was fetched ahead was not asked for by anybody who is about to load it
    recent = (entry.key for entry in entries if now - entry.last_used < grace_seconds and not entry.unused)
    return Protection(frozenset(everything) | frozenset(leased), frozenset(recent))
