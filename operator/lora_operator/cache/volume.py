"""The cache of adapter files: on a volume that the pods mount too, or on a disk that the agents of a node share.

A version is put together in a place of its own, proven, made durable and renamed to `<root>/<name>/<fingerprint>/`. A
folder of that name is whole, and nothing in it ever changes: an engine may read it again at any time.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import partial as bound
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from lora_operator.cache import clearing
from lora_operator.cache.copying import copy_verified
from lora_operator.cache.disk import Disk
from lora_operator.cache.entry import Entry, Key
from lora_operator.cache.filling import Fill, Filling, may_go_on
from lora_operator.cache.history import Counts
from lora_operator.cache.history import load as load_history
from lora_operator.cache.leases import Leases
from lora_operator.cache.limits import Limits
from lora_operator.cache.partial import Partial, claim, taken
from lora_operator.cache.paths import parse_root
from lora_operator.cache.policies import POLICIES, EvictionPolicy
from lora_operator.cache.protection import InUse, protection
from lora_operator.cache.records import Event
from lora_operator.cache.room import Room
from lora_operator.cache.shelf import Shelf, is_folder
from lora_operator.cache.statistics import Statistics
from lora_operator.cache.store_error import StoreError, store_error
from lora_operator.cache.victims import Evicted

if TYPE_CHECKING:  # an agent, which starts with each pod, has no use for the sources
    from lora_operator.artifacts.found import FoundAdapter

__all__ = ["Evicted", "Fill", "Limits", "StoreError", "VolumeStore", "parse_root"]

log = logging.getLogger(__name__)
T = TypeVar("T")

HANGS_SECONDS = 30.0
FILLS_AT_ONCE = 32  # whoever makes room looks at all that are under way, and a slow store must not hold up the others
WAIT_SECONDS = (0.02, 1.0)  # between two looks at a version that another process is fetching: first, longest


class VolumeStore:
    """The cache in the folder `root`. Several processes may use one folder at a time.

    `in_use` tells which versions an engine of the caller's may have loaded, None if nobody can tell; it is asked on the
    event loop before anything is removed, and must name whatever may be loaded next, too. What the pods of other
    processes have loaded is told by `hold`. `on_evicted` is called on the event loop for every version that was
    removed. Without `limits` there is no budget.
    """

    def __init__(
        self,
        root: Path,
        *,
        limits: Limits | None = None,
        policy: EvictionPolicy = POLICIES["lru"],
        in_use: Callable[[], InUse] = frozenset,
        on_evicted: Callable[[Evicted], None] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._root = root
        self._limits = limits or Limits(budget_bytes=None)
        self._in_use = in_use
        self._on_evicted = on_evicted
        self._clock = clock
        self._shelf = Shelf(root)
        self._leases = Leases(root)
        self._room = Room(self._shelf, self._limits, policy, clock)
        self._under_way: dict[Key, tuple[asyncio.Task[Path], bool]] = {}
        self._counts = Counts()
        self._disk = Disk()
        self._places = asyncio.Semaphore(FILLS_AT_ONCE)

    async def start(self) -> int:
        """Check the root and repair half states that killed processes left; returns how many. Raises StoreError."""
        await self._do("opening the store", bound(self._check_root, "opening the store"))
        repaired, broken = await self._do(
            f"repairing {self._root}", bound(clearing.repair, self._shelf, self._in_use(), self._clock())
        )
        self._tell(broken)
        return repaired + len(broken)

    async def check(self) -> None:
        """Whether the root can be read, in a time that does not grow with what is in it. Raises StoreError."""
        await self._do(f"reading {self._root}", self._read_root)

    async def add(
        self,
        name: str,
        fingerprint: str,
        files: Mapping[str, int],
        fill: Fill,
        *,
        prefetch: bool = False,
        resumable: bool = True,
    ) -> Path:
        """Bring a version into the store, unless it is there, and return its folder.

        `files` are the names and sizes in bytes that make it whole. Room for them is made first; then `fill(folder)`
        puts them into `folder`, which holds what an earlier attempt left there, killed or failed, if `resumable`: it
        has to go on from that or to remove it, and what it leaves beside `files` is removed. `fill` proves the content;
        here the sizes are checked again, and a whole version appears at once or not at all.

        Safe to repeat and to run at the same time in several processes: one fills, the others wait for it. Callers in
        this process share one task; it goes on when one of them is cancelled. A `prefetch` counts neither as hit nor as
        use. `fill` is called a second time if the disk was full though the budget is not (OSError ENOSPC, or an error
        whose `reason` is DiskFull), after something was removed.

        Raises StoreError (CacheFull with the sums), and whatever `fill` raises; an OSError of `fill` as StoreError.
        """
        key = (name, fingerprint)
        self._shelf.path_of(key)
        task, ahead = self._under_way.get(key, (None, False))
        if task is None:
            task = asyncio.create_task(self._add(key, files, fill, prefetch, resumable))
            self._under_way[key] = task, prefetch
            task.add_done_callback(lambda done: self._ended(key, done))
        # the others still want it when one of them is cancelled
        path = await asyncio.shield(task)
        if ahead and not prefetch:
            await self.use(name, fingerprint)  # it was fetched ahead, and just in time
        return path

    async def publish(self, adapter: FoundAdapter, source_folder: Path) -> Path:
        """Bring `adapter` in from a folder that can be read here: `add` with a verified copy. Raises StoreError."""

        async def copy(folder: Path) -> None:
            await self._disk.do(bound(_copy, adapter, source_folder, folder))

        files = {file.path: file.size_bytes for file in adapter.files}
        return await self.add(adapter.name, adapter.fingerprint, files, copy, resumable=False)

    async def use(self, name: str, fingerprint: str) -> bool:
        """Note that this version is asked for; False if it is not there whole. Raises StoreError.

        This is what is asked first, and so what says that a volume hangs (VolumeHangs).
        """
        what = f"using {name}"
        task = asyncio.create_task(self._do(what, bound(self._hit, (name, fingerprint))))
        done, _ = await asyncio.wait({task}, timeout=HANGS_SECONDS)
        if not done:
            task.add_done_callback(lambda late: late.cancelled() or late.exception())
            raise StoreError(
                "VolumeHangs",
                f"{what}: the adapter volume {self._root} gave no answer within {HANGS_SECONDS:g} s: see to the server "
                "that it comes from",
                retryable=True,
            )
        return task.result()

    async def has(self, name: str, fingerprint: str) -> bool:
        """Whether this version is there whole; no use of it. Raises StoreError."""
        return await self._do(f"looking for {name}", bound(self._shelf.is_whole, (name, fingerprint)))

    async def pin(self, name: str, fingerprint: str, *, pinned: bool = True) -> None:
        """Keep a version whatever its age, or let it go again. Raises StoreError (NotStored)."""
        await self._do(f"pinning {name}", bound(self._pin, (name, fingerprint), pinned))

    async def hold(self, holder: str, versions: Collection[Key]) -> frozenset[Key]:
        """Note that the pod `holder` ("namespace/name") has, or is about to have, exactly these versions loaded.

        They are not removed until it holds others, `let_go` or seven days without `hold`. To be called before a version
        is loaded: returns those that are there, the others must not be loaded. Raises StoreError.
        """
        return await self._do(f"holding versions for {holder}", bound(self._hold, holder, frozenset(versions)))

    async def let_go(self, holder: str) -> None:
        """Only for who knows that the pod is gone, or that its engine has nothing loaded. Raises StoreError."""
        await self._do(f"letting go for {holder}", bound(self._let_go, holder))

    async def held_by(self, holder: str) -> frozenset[Key] | None:
        """What `holder` was last said to have loaded, whoever said so; None if nobody did. Raises StoreError."""
        return await self._do(f"reading {self._root}", bound(self._leases.of, holder))

    async def holders(self) -> list[str]:
        """Who holds versions in this store. Raises StoreError."""
        return await self._do(f"reading {self._root}", self._leases.holders)

    async def evict(self, name: str, fingerprint: str) -> bool:
        """Remove this version; False if it was not there. Raises StoreError (InUse, Pinned)."""
        in_use = self._in_use()
        if in_use is None:
            in_use = ((name, fingerprint),)
        gone = await self._do(
            f"removing {name}", bound(clearing.evict, self._shelf, (name, fingerprint), in_use, self._clock())
        )
        self._tell(gone)
        return bool(gone)

    async def sweep(
        self, keep: Collection[Key], older_than_seconds: float | None = None, now: float | None = None
    ) -> tuple[Key, ...]:
        """Delete the versions that are not in `keep` and were last used more than `older_than_seconds` (TTL) ago.

        `keep` holds (name, fingerprint) of all that is wanted or loaded anywhere: an engine dies when it reads again
        what is gone. They are young again after this, for other processes that sweep here.

        Returns what was deleted, sorted. Raises StoreError.
        """
        older_than = self._limits.ttl_seconds if older_than_seconds is None else older_than_seconds
        at = self._clock() if now is None else now
        gone = await self._do(
            f"sweeping {self._root}", bound(clearing.sweep, self._shelf, frozenset(keep), older_than, at)
        )
        self._tell(gone)
        return tuple(sorted(evicted.key for evicted in gone))

    async def entries(self) -> tuple[Entry, ...]:
        """All versions in the store, sorted by name and fingerprint. Raises StoreError."""
        return tuple(await self._do(f"reading {self._root}", self._entries))

    async def statistics(self) -> Statistics:
        """Raises StoreError."""
        return await self._do(f"reading {self._root}", bound(self._statistics, self._in_use()))

    def path_of(self, name: str, fingerprint: str) -> Path:
        """Where that version is, or would be. Raises StoreError for a name or fingerprint that cannot be one."""
        return self._shelf.path_of((name, fingerprint))

    def holds(self, name: str, fingerprint: str) -> bool:
        """Whether that version is in the store (one stat, which blocks: see `has`)."""
        return is_folder(self.path_of(name, fingerprint))

    async def _add(self, key: Key, files: Mapping[str, int], fill: Fill, prefetch: bool, resumable: bool) -> Path:
        what = f"storing {key[0]} at {self._shelf.path_of(key)}"
        pause = WAIT_SECONDS[0]
        while True:
            async with self._places:
                claimed = await self._do(what, bound(self._claim, key, files, prefetch))
                if isinstance(claimed, Path):
                    return claimed
                if claimed is not None:
                    return await self._fill(what, claimed, files, fill, prefetch, resumable)
            await asyncio.sleep(pause)
            pause = min(pause * 2, WAIT_SECONDS[1])

    async def _fill(
        self, what: str, claimed: Partial, files: Mapping[str, int], fill: Fill, prefetch: bool, resumable: bool
    ) -> Path:
        keep = resumable
        filling = Filling(self._room, self._disk, claimed, files, fill, prefetch, self._in_use, self._tell)
        try:
            thrashed = await filling.run(what)
            self._counts = self._counts.plus(misses=1, thrash=int(thrashed))
            keep = False
        except Exception as error:
            keep = resumable and may_go_on(error) and claimed.present_bytes() <= sum(files.values())
            raise
        finally:
            await self._disk.do(bound(claimed.release, keep=keep))
        return self._shelf.path_of(claimed.key)

    def _look(self, key: Key, files: Mapping[str, int], prefetch: bool) -> bool:
        if not self._shelf.is_there(key):
            return False
        if lacking := self._shelf.lacks(key, files) or self._shelf.lacks(key, self._shelf.files_of(key)):
            if self._shelf.is_there(key):  # else another process removed it between the looks: it was whole until then
                log.warning("%s is not whole (%s): it is fetched again", self._shelf.path_of(key), lacking)
            return False
        return prefetch or self._hit(key)

    def _hit(self, key: Key) -> bool:
        if not self._shelf.is_whole(key) or not self._shelf.mark_used(key, self._clock()):
            return False
        with suppress(OSError):  # a full volume, or one that we may only read, still serves
            self._shelf.records.note(key, Event.HIT)
        self._counts = self._counts.plus(hits=1)
        return True

    def _pin(self, key: Key, pinned: bool) -> None:
        with self._shelf.changing():
            if self._shelf.is_there(key):
                self._shelf.entries()  # begins the record, if it has none yet
                if self._shelf.records.note(key, Event.PIN if pinned else Event.UNPIN):
                    return
        raise StoreError("NotStored", f"{key[0]} {key[1]} is not in {self._root}: fetch it first", retryable=True)

    def _hold(self, holder: str, versions: frozenset[Key]) -> frozenset[Key]:
        with self._shelf.changing():
            there = frozenset(key for key in versions if self._shelf.is_whole(key))
            # an engine may still be answering requests with what it was told to unload: it goes the normal way of age
            for key in (self._leases.of(holder) or frozenset()) - versions:
                self._shelf.mark_used(key, self._clock())
            # what was damaged is held all the same: its rest must not go while an engine has it
            damaged = frozenset(key for key in versions - there if self._shelf.is_there(key))
            self._leases.hold(holder, there | damaged)
            return there

    def _let_go(self, holder: str) -> None:
        with self._shelf.changing():
            self._leases.end(holder)

    def _entries(self) -> list[Entry]:
        with self._shelf.changing():
            return self._shelf.entries()

    def _statistics(self, in_use: InUse) -> Statistics:
        now = self._clock()
        with self._shelf.changing():
            entries, past, places = self._shelf.entries(), load_history(self._root), taken(self._root, now)
            held = self._leases.held(now)
        safe = protection(entries, in_use, held, now, 0)
        return Statistics(
            versions=len(entries),
            used_bytes=sum(entry.size_bytes for entry in entries),
            budget_bytes=self._limits.budget_bytes,
            fetching_bytes=sum(place.size_bytes for place in places if place.alive),
            left_over_bytes=sum(place.size_bytes for place in places if not place.alive),
            in_use=sum(entry.key in safe.in_use for entry in entries),
            pinned=sum(entry.pinned for entry in entries),
            unused_prefetched=sum(entry.unused for entry in entries),
            oldest_used_at=min((entry.last_used for entry in entries), default=None),
            total=past.counts.plus(hits=sum(entry.hits for entry in entries)),
            process=self._counts,
        )

    def _claim(self, key: Key, files: Mapping[str, int], prefetch: bool) -> Path | Partial | None:
        """The version's folder if it is there and whole, else the right to fill it; None while another has that."""
        self._check_root(f"storing {key[0]}")
        if self._look(key, files, prefetch):
            return self._shelf.path_of(key)
        claimed = claim(self._root, key)
        if claimed is None:
            return None
        try:
            there = self._look(key, files, prefetch)  # who had the claim before may just have finished
        except BaseException:
            claimed.release(keep=True)
            raise
        if not there:
            return claimed
        claimed.release(keep=False)
        return self._shelf.path_of(key)

    def _check_root(self, what: str) -> None:
        if not self._root.is_dir():
            raise StoreError(
                "VolumeMissing",
                f"{what}: the adapter volume {self._root} is not a folder: mount the volume there",
                retryable=True,
            )

    def _read_root(self) -> None:
        self._check_root(f"reading {self._root}")
        with os.scandir(self._root) as entries:
            next(entries, None)

    def _tell(self, gone: Iterable[Evicted]) -> None:
        for evicted in gone:
            log.info("removed %s %s from %s (%s)", evicted.name, evicted.fingerprint, self._root, evicted.why)
            self._counts = replace(
                self._counts,
                evictions=self._counts.evictions + 1,
                evicted_bytes=self._counts.evicted_bytes + evicted.size_bytes,
            )
            if self._on_evicted is not None:
                self._on_evicted(evicted)

    def _ended(self, key: Key, done: asyncio.Task[Path]) -> None:
        del self._under_way[key]
        if not done.cancelled():
            done.exception()  # if every caller was cancelled, nobody else asks for it

    async def _do(self, what: str, work: Callable[[], T]) -> T:
        """Blocking work on the store; what the operating system says becomes a StoreError."""
        try:
            return await self._disk.do(work)
        except OSError as error:
            raise store_error(what, error) from error


def _copy(adapter: FoundAdapter, source_folder: Path, folder: Path) -> None:
    for left in folder.iterdir():  # copies are quick: nobody goes on with half of one
        left.unlink()
    for file in adapter.files:
        copy_verified(file, source_folder, folder)
