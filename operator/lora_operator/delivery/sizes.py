"""How large the versions of an adapter are, also those that nobody wants any more but that still take room."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from functools import partial

from lora_operator.artifacts import CONFIG_FILE, WEIGHTS_FILE
from lora_operator.cache.disk import Disk
from lora_operator.cache.entry import Key
from lora_operator.cache.volume import StoreError, VolumeStore
from lora_operator.desired.adapters import Desired

REMEMBERED = 50_000
STOP_SECONDS = 1.0
AGAIN_SECONDS = 60.0


class Sizes:
    """(bytes, rank) by public name and fingerprint. What this process has not seen is read off the adapter volume,
    beside the planning round that asks: a volume may hang. What cannot be read is tried again after a while. `changed`
    is called when something was read. `clock` is monotonic.
    """

    def __init__(
        self,
        store: VolumeStore,
        changed: Callable[[], None] = lambda: None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._changed = changed
        self._clock = clock
        self._disk = Disk()
        self._known: OrderedDict[Key, tuple[int, int]] = OrderedDict()
        self._again_at: OrderedDict[Key, float] = OrderedDict()
        self._reading: dict[Key, asyncio.Task[None]] = {}

    def remember(self, desired: Desired) -> None:
        for wanted in desired.adapters.values():
            adapter = wanted.adapter
            self._known[(adapter.name, adapter.version)] = (adapter.bytes, adapter.rank)
        while len(self._known) > REMEMBERED:
            self._known.popitem(last=False)

    def of(self, name: str, fingerprint: str) -> tuple[int, int] | None:
        """None where nothing is known (yet); the caller then assumes a pod's fair share."""
        key = (name, fingerprint)
        known = self._known.get(key)
        if known is None and key not in self._reading and self._again_at.get(key, -math.inf) <= self._clock():
            task = self._reading[key] = asyncio.create_task(self._read(key), name=f"size of {name}")
            task.add_done_callback(lambda _: self._reading.pop(key, None))
        return known

    async def first_reads(self, keys: Iterable[Key], timeout: float) -> None:
        """Wait for the sizes of these, so that the first plan need not assume anything."""
        for key in keys:
            self.of(*key)
        if self._reading:
            await asyncio.wait(list(self._reading.values()), timeout=timeout)

    async def stop(self) -> None:
        """A volume that hangs is not waited for."""
        tasks = list(self._reading.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=STOP_SECONDS)

    async def _read(self, key: Key) -> None:
        found = await self._disk.do(partial(_measure, self._store, *key))
        self._again_at.pop(key, None)
        if found is None:
            self._again_at[key] = self._clock() + AGAIN_SECONDS
            while len(self._again_at) > REMEMBERED:
                self._again_at.popitem(last=False)
        else:
            self._known[key] = found
            self._changed()


def _measure(store: VolumeStore, name: str, fingerprint: str) -> tuple[int, int] | None:
    """A published version was inspected before, so that its own word counts; one that cannot be read is unknown."""
    try:
        folder = store.path_of(name, fingerprint)
        config = json.loads((folder / CONFIG_FILE).read_bytes())
        ranks = [int(config["r"]), *map(int, (config.get("rank_pattern") or {}).values())]
        size = (folder / WEIGHTS_FILE).stat().st_size
    except (StoreError, OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return (size, max(ranks)) if min(ranks) > 0 else None
