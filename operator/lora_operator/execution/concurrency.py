"""Whose turn it is to be loaded: an engine that may be serving loads one at a time, since a load stops its generation.

Files of the next ones are brought meanwhile.
"""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager, nullcontext
from weakref import WeakValueDictionary

from lora_operator.engines.prober import EngineView

UNLOADS_AT_A_TIME = 8
FETCHES_BESIDE = 4  # more of them on one pod would share its bandwidth, so that each came later


class LoadConcurrency:
    """`fresh_concurrency` loads at a time on an engine that serves nobody yet."""

    def __init__(self, fresh_concurrency: int) -> None:
        self._fresh_concurrency = fresh_concurrency
        self._taken = WeakValueDictionary[str, asyncio.Lock]()  # by container instance, while in use
        self._unloading = WeakValueDictionary[str, asyncio.Semaphore]()

    def loads_at_a_time(self, view: EngineView | None) -> int:
        """How many loads may be under way on this pod, counting those whose files are still on their way."""
        return self._fresh_concurrency if view is not None and not view.has_served else FETCHES_BESIDE

    def loading(self, view: EngineView | None) -> AbstractAsyncContextManager[object]:
        """To be entered while the engine loads."""
        if view is None or not view.has_served:
            return nullcontext()
        lock = self._taken.get(view.instance)
        if lock is None:
            lock = self._taken[view.instance] = asyncio.Lock()
        return lock

    def unloading(self, instance: str) -> AbstractAsyncContextManager[object]:
        """To be entered while the engine unloads."""
        turn = self._unloading.get(instance)
        if turn is None:
            turn = self._unloading[instance] = asyncio.Semaphore(UNLOADS_AT_A_TIME)
        return turn
