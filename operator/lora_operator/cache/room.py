"""Makes room for a version before it is fetched: `victims` decides who goes, here it is done. Blocking."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lora_operator.cache import history as histories
from lora_operator.cache.entry import Entry
from lora_operator.cache.leases import Leases
from lora_operator.cache.limits import Limits
from lora_operator.cache.partial import Partial, Taken, drop, taken
from lora_operator.cache.policies.base import EvictionPolicy
from lora_operator.cache.protection import InUse, protection
from lora_operator.cache.scratch import sweep_scratch
from lora_operator.cache.shelf import Shelf
from lora_operator.cache.store_error import CacheFull, StoreError
from lora_operator.cache.used import used_bytes
from lora_operator.cache.victims import Choice, Evicted, Why, choose_victims

_LOOKS = 5  # at a store whose versions are asked for while we look


@dataclass(frozen=True, slots=True)
class Room:
    """Of one root. `clock` gives Unix time. All looks at the disk are new ones, under the root's lock."""

    shelf: Shelf
    limits: Limits
    policy: EvictionPolicy
    clock: Callable[[], float]

    def make(self, claimed: Partial, size_bytes: int, in_use: InUse, *, disk_full: bool = False) -> list[Evicted]:
        """Make room for `size_bytes` and reserve it for `claimed`; returns what had to go.

        `disk_full`: the disk had no room though the budget has, so as much goes as is still to come.

        Raises StoreError (CacheFull, LargerThanCache, DiskFull, Busy), OSError.
        """
        gone: list[Evicted] = []
        with self.shelf.changing() as alone:
            for _ in range(_LOOKS):
                if self._make_once(claimed, size_bytes, in_use, disk_full, gone, alone):
                    claimed.reserve(size_bytes)
                    return gone
        raise StoreError(
            "Busy",
            f"storing {claimed.key[0]}: whatever could go from {self.shelf.root} is asked for at this moment",
            retryable=True,
        )

    def reserve(self, claimed: Partial, size_bytes: int) -> bool:
        """Reserve `size_bytes` for `claimed` where nothing has to go for it; else there is something to `make`.

        Raises StoreError (LargerThanCache), OSError.
        """
        root = self.shelf.root
        with self.shelf.changing() as alone:
            if not alone or size_bytes - claimed.present_bytes() > free_bytes(root):
                return False
            if self.limits.budget_bytes is not None:
                others = [other for other in taken(root, self.clock()) if other.place != claimed.place]
                used = used_bytes(root)
                if used is None or self._over_budget(claimed.key[0], size_bytes, used, others) > 0:
                    return False
            claimed.reserve(size_bytes)
            return True

    def missed(self, claimed: Partial) -> bool:
        """Count that a version has to be fetched; whether it went less than an hour ago. Raises StoreError, OSError."""
        root = self.shelf.root
        with self.shelf.changing():
            before = histories.load(root)
            after = before.missed(claimed.key, self.clock())
            histories.save(root, after)
        return after.counts.thrash > before.counts.thrash

    def _make_once(
        self, claimed: Partial, size_bytes: int, in_use: InUse, disk_full: bool, gone: list[Evicted], alone: bool
    ) -> bool:
        """False: something that was to go was asked for meanwhile, look again."""
        root, now = self.shelf.root, self.clock()
        sweep_scratch(root, now)
        to_come = max(size_bytes - claimed.present_bytes(), 1)
        # a disk that is full with free space has a quota, or others who were faster: only removing helps
        over_disk = to_come - (sum(evicted.size_bytes for evicted in gone) if disk_full else free_bytes(root))
        used = used_bytes(root) if alone else None
        others = [other for other in taken(root, now) if other.place != claimed.place]
        if used is not None and max(self._over_budget(claimed.key[0], size_bytes, used, others), over_disk) <= 0:
            return True
        entries = self.shelf.entries()
        used = sum(entry.size_bytes for entry in entries)
        over_budget = self._over_budget(claimed.key[0], size_bytes, used, others)
        for left in sorted((other for other in others if not other.alive), key=lambda other: other.touched_at):
            if max(over_budget, over_disk) > 0 and drop(left, now):
                over_budget -= left.size_bytes
                over_disk -= left.size_bytes
        if max(over_budget, over_disk) <= 0:
            return True
        safe = protection(entries, in_use, Leases(root).held(now), now, self.limits.grace_seconds)
        past = histories.load(root)

        def choose(need_bytes: float, why: Why) -> Choice:
            return choose_victims(
                entries, math.ceil(need_bytes), now, self.policy, safe.keys,
                ttl_seconds=self.limits.ttl_seconds, memory=past.memory, why=why,
            )  # fmt: skip

        choice = choose(max(over_budget, over_disk), Why.ROOM if over_budget >= over_disk else Why.DISK_FULL)
        if choice.short_bytes and over_budget > 0:
            # nothing goes in vain: if the budget can be held, the disk may still say no
            choice = choose(over_budget, Why.ROOM)
            if choice.short_bytes:
                fetching = sum(other.size_bytes for other in others if other.alive)
                raise CacheFull(
                    f"storing {claimed.key[0]} in {root}", size_bytes, self.limits.budget_bytes or 0,
                    *safe.sums(entries), fetching,
                )  # fmt: skip
        elif choice.short_bytes and disk_full:
            raise StoreError(
                "DiskFull",
                f"storing {claimed.key[0]} in {root}: the disk is full, and the cache has too little there that may "
                f"go for the {to_come} bytes still to come: free some space or enlarge the volume",
                retryable=True,
            )
        elif choice.short_bytes:
            return True
        return remove(self.shelf, entries, choice, past, now, gone)

    def _over_budget(self, name: str, size_bytes: int, used: int, others: Sequence[Taken]) -> int:
        budget = self.limits.budget_bytes
        if budget is None:
            return 0
        if size_bytes > budget:
            raise StoreError(
                "LargerThanCache",
                f"storing {name}: its {size_bytes} bytes are more than the cache's whole budget of {budget}: raise it",
                retryable=False,
            )
        return used + sum(other.size_bytes for other in others) + size_bytes - budget


def remove(
    shelf: Shelf,
    entries: Collection[Entry],
    choice: Choice,
    past: histories.History,
    now: float,
    gone: list[Evicted],
) -> bool:
    """Take `choice` away, unless asked for since `entries` were read, and note it; adds what went to `gone`.

    Returns whether all of it went. Under the root's lock. Raises OSError.
    """
    known = {entry.key: entry for entry in entries}
    went = [victim for victim in choice.victims if shelf.take_away(known[victim.key])]
    gone += went
    if went:
        noted = past.evicted([known[victim.key] for victim in went], now)
        histories.save(shelf.root, replace(noted, memory=choice.memory))
    return len(went) == len(choice.victims)


def free_bytes(root: Path) -> float:
    """What the disk has left for us; infinite where the file system does not say. Raises OSError."""
    status = os.statvfs(root)
    return status.f_bavail * status.f_frsize if status.f_blocks else math.inf
