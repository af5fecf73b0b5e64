"""What has to go so that something else fits. Pure: the whole decision, without the disk."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from enum import StrEnum

from lora_operator.cache.entry import Entry, Key
from lora_operator.cache.policies.base import EvictionPolicy, Memory, take

# The plan that wanted it has had its chance by then.
STALE_PREFETCH_SECONDS = 3600.0


class Why(StrEnum):
    """Why a version was removed."""

    EXPIRED = "Expired"  # nobody asked for it for longer than the TTL
    UNUSED_PREFETCH = "UnusedPrefetch"  # fetched ahead, and nobody came for it
    ROOM = "Room"  # the policy chose it to make room within the budget
    DISK_FULL = "DiskFull"  # the same, though within the budget: others fill the disk
    BROKEN = "Broken"  # files missing or of the wrong size
    REQUESTED = "Requested"  # somebody asked for its removal


@dataclass(frozen=True, slots=True)
class Evicted:
    """One version that has gone, or is to go."""

    name: str
    fingerprint: str
    size_bytes: int
    why: Why

    @property
    def key(self) -> Key:
        return self.name, self.fingerprint


@dataclass(frozen=True, slots=True)
class Choice:
    """`short_bytes` is missing even when all `victims` have gone; the policy's `memory` is for the next time."""

    victims: tuple[Evicted, ...] = ()
    short_bytes: int = 0
    memory: Memory = field(default_factory=Memory)


def choose_victims(
    entries: Collection[Entry],
    need_bytes: int,
    now: float,
    policy: EvictionPolicy,
    protected: Collection[Key],
    *,
    ttl_seconds: float,
    memory: Memory | None = None,
    why: Why = Why.ROOM,
) -> Choice:
    """Free `need_bytes`: expired versions first, then prefetched ones that nobody came for, then as `policy` says.

    Never one that is pinned or in `protected`, whatever follows from that.
    """
    memory = memory or Memory()
    free = [entry for entry in entries if not entry.pinned and entry.key not in protected]
    victims: list[Evicted] = []

    def remove(gone: Iterable[Entry], reason: Why) -> None:
        nonlocal need_bytes, free
        for entry in gone:
            victims.append(Evicted(entry.name, entry.fingerprint, entry.size_bytes, reason))
            need_bytes -= entry.size_bytes
        keys = {victim.key for victim in victims}
        free = [entry for entry in free if entry.key not in keys]

    if expired := expired_first(free, now, ttl_seconds):
        remove(take(expired, need_bytes), Why.EXPIRED)
    if stale := [e for e in free if e.unused and now - e.last_used > STALE_PREFETCH_SECONDS]:
        remove(take(sorted(stale, key=lambda e: (e.last_used, e.key)), need_bytes), Why.UNUSED_PREFETCH)
    if need_bytes > 0:
        chosen, memory = policy.choose(free, need_bytes, now, memory)
        remove(chosen, why)
    return Choice(tuple(victims), max(need_bytes, 0), memory)


def expired_first(entries: Iterable[Entry], now: float, ttl_seconds: float) -> list[Entry]:
    """Those that nobody asked for during the last `ttl_seconds`, the oldest first."""
    return sorted((e for e in entries if now - e.last_used > ttl_seconds), key=lambda e: (e.last_used, e.key))
