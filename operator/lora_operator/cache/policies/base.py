"""What an eviction policy is asked, and what it may remember."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Protocol

from lora_operator.cache.entry import Entry, Key

Place = tuple[float, Key]  # where an entry stands in the order of arrival


@dataclass(frozen=True, slots=True)
class Memory:
    """What policies carry from one choice to the next; losing it costs a few worse choices and nothing else.

    `hand` and `passed` are SIEVE's: how far its hand has come, and how many hits each entry had when the hand passed
    it. `inflation` is GDSF's: (since, value) steps, both ascending.
    """

    hand: Place | None = None
    passed: Mapping[Key, int] = field(default_factory=lambda: MappingProxyType({}))
    inflation: tuple[tuple[float, float], ...] = ()


class EvictionPolicy(Protocol):
    """Has no state of its own, so that the same question always gets the same answer."""

    @property
    def name(self) -> str: ...  # pragma: no cover

    def choose(
        self, entries: Sequence[Entry], need_bytes: int, now: float, memory: Memory
    ) -> tuple[tuple[Entry, ...], Memory]:
        """Entries to remove, first to go first, until `need_bytes` are free or none is left; and what to remember."""
        ...  # pragma: no cover


def place(entry: Entry) -> Place:
    """The order of arrival, the same on every machine."""
    return entry.added_at, entry.key


def take(ordered: Iterable[Entry], need_bytes: int) -> tuple[Entry, ...]:
    """The first of `ordered` that free `need_bytes` together."""
    taken: list[Entry] = []
    for entry in ordered:
        if need_bytes <= 0:
            break
        taken.append(entry)
        need_bytes -= entry.size_bytes
    return tuple(taken)
