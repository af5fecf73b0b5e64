"""One version on its way into a store: room, files, proof, and the rename that makes it visible."""

from __future__ import annotations

import errno
import os
import shutil
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial as bound
from pathlib import Path

from lora_operator.cache.disk import Disk
from lora_operator.cache.partial import Partial
from lora_operator.cache.protection import InUse
from lora_operator.cache.records import Record
from lora_operator.cache.room import Room
from lora_operator.cache.shelf import lacking, seal
from lora_operator.cache.store_error import StoreError, store_error
from lora_operator.cache.victims import Evicted

Fill = Callable[[Path], Awaitable[None]]

# After these, what is there already stands in the way of others or is wrong.
_NO_ROOM = frozenset({"DiskFull", "CacheFull", "LargerThanCache", "Incomplete"})


@dataclass(frozen=True, slots=True)
class Filling:
    """`in_use` and `tell` are those of the store, called on the event loop."""

    room: Room
    disk: Disk
    claimed: Partial
    files: Mapping[str, int]
    fill: Fill
    prefetch: bool
    in_use: Callable[[], InUse]
    tell: Callable[[Iterable[Evicted]], None]

    async def run(self, what: str) -> bool:
        """Returns whether the version had gone less than an hour ago.

        Raises StoreError, and what `fill` raises; an OSError as StoreError.
        """
        try:
            if not await self.disk.do(bound(self.room.reserve, self.claimed, sum(self.files.values()))):
                await self._make_room(disk_full=False)
            thrashed = await self.disk.do(bound(self.room.missed, self.claimed))
            started = time.monotonic()
            try:
                await self.fill(self.claimed.folder)
            except Exception as error:
                if not _is_disk_full(error):
                    raise
                # the budget has room, the disk does not: others are on it
                await self._make_room(disk_full=True)
                await self.fill(self.claimed.folder)
            await self.disk.do(bound(self._put, what, time.monotonic() - started))
            return thrashed
        except OSError as error:
            raise store_error(what, error) from error

    async def _make_room(self, *, disk_full: bool) -> None:
        size_bytes = sum(self.files.values())
        make = bound(self.room.make, self.claimed, size_bytes, self.in_use(), disk_full=disk_full)
        self.tell(await self.disk.do(make))

    def _put(self, what: str, seconds: float) -> None:
        folder, shelf, now = self.claimed.folder, self.room.shelf, self.room.clock()
        for path in folder.iterdir():
            if path.name not in self.files:  # notes for resuming
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        if missing := lacking(folder, self.files):
            raise StoreError(
                "Incomplete", f"{what}: {missing} did not arrive whole: it is fetched again", retryable=True
            )
        seal(folder, self.files)
        record = Record(tuple(sorted(self.files.items())), now, seconds, self.prefetch)
        with shelf.changing():
            os.utime(folder, (now, now))  # its last use: the rename leaves that as it is
            shelf.put(self.claimed.key, folder, record)


def may_go_on(error: Exception) -> bool:
    """Whether a later attempt may go on with what this one left."""
    return getattr(error, "reason", "") not in _NO_ROOM


def _is_disk_full(error: Exception) -> bool:
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return getattr(error, "reason", "") == "DiskFull"
