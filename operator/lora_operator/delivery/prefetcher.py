"""Brings files early, a few at a time, and only while nothing else is known to be wrong with that."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence

from lora_operator.delivery.delivery_router import DeliveryRouter
from lora_operator.desired.adapters import Desired, DesiredAdapter
from lora_operator.informers.records import PodRecord

log = logging.getLogger(__name__)

AT_A_TIME = 4
AGAIN_SECONDS = (1.0, 30.0)  # after a failure: first, as the agent of a new pod is a second late; longest
MOST_REMEMBERED = 50_000
Item = tuple[str, str, str]  # uid of the pod, key of the adapter, version


class Prefetcher:
    """What was brought is not brought again to the same pod; nothing here is needed for anything to be right."""

    def __init__(self, ways: DeliveryRouter, clock: Callable[[], float] = time.monotonic) -> None:
        self._ways = ways
        self._clock = clock
        self._wanted: dict[Item, tuple[PodRecord, DesiredAdapter]] = {}
        self._brought: set[Item] = set()
        self._failed: dict[Item, tuple[float, float]] = {}  # not before then, and how long that was
        self._tasks: dict[Item, asyncio.Task[None]] = {}

    def sync_targets(self, early: Sequence[tuple[str, str]], pods: Mapping[str, PodRecord], desired: Desired) -> None:
        """Work on the first of these (pod, adapter) from now on; what is not among them any more is given up."""
        self._wanted.clear()
        for pod, adapter in early:
            record, wanted = pods.get(pod), desired.adapters.get(adapter)
            if record is not None and wanted is not None and wanted.found is not None:
                self._wanted[record.uid, adapter, wanted.adapter.version] = (record, wanted)
        for item, task in self._tasks.items():
            if item not in self._wanted:
                task.cancel()
        for item in [item for item in self._failed if item not in self._wanted]:
            del self._failed[item]
        if len(self._brought) > MOST_REMEMBERED:
            self._brought.clear()
        self._start()

    def _start(self) -> None:
        now = self._clock()
        for item, (record, wanted) in self._wanted.items():
            if len(self._tasks) >= AT_A_TIME:
                return
            if item in self._tasks or item in self._brought or self._failed.get(item, (0.0, 0.0))[0] > now:
                continue
            work = self._bring(item, record, wanted)
            task = self._tasks[item] = asyncio.create_task(work, name=f"prefetch {wanted.adapter.name}")
            task.add_done_callback(lambda done, item=item: self._ended(item, done))  # type: ignore[misc]

    def _ended(self, item: Item, done: asyncio.Task[None]) -> None:
        del self._tasks[item]
        if not done.cancelled():
            self._start()  # no round need come for the next ones

    async def stop(self) -> None:
        self._wanted.clear()
        for task in list(self._tasks.values()):
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _bring(self, item: Item, record: PodRecord, wanted: DesiredAdapter) -> None:
        try:
            await self._ways.prefetch(record, wanted)
            self._brought.add(item)
            log.debug("files of %s are on %s early", wanted.adapter.key, record.key)
        except Exception as error:
            # the load itself will say what is wrong, where people look for it
            log.debug("files of %s could not be brought to %s early: %s", wanted.adapter.key, record.key,
                      type(error).__name__)  # fmt: skip
            first, longest = AGAIN_SECONDS
            delay = min(max(self._failed.get(item, (0.0, 0.0))[1] * 2, first), longest)
            self._failed[item] = (self._clock() + delay, delay)
            asyncio.get_running_loop().call_later(delay, self._start)
