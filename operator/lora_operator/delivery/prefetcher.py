"""Brings files early, a few at a time, and only while nothing else is known to be wrong with that."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence

from lora_operator.delivery.ways import Ways
from lora_operator.desired import Desired
from lora_operator.observe.cluster import PodRecord

log = logging.getLogger(__name__)

AT_A_TIME = 4
AGAIN_SECONDS = 30.0
MOST_REMEMBERED = 50_000
Item = tuple[str, str, str]  # uid of the pod, key of the adapter, version


class Prefetcher:
    """What was brought is not brought again to the same pod; nothing here is needed for anything to be right."""

    def __init__(self, ways: Ways, clock: Callable[[], float] = time.monotonic) -> None:
        self._ways = ways
        self._clock = clock
        self._not_before: dict[Item, float] = {}
        self._tasks: dict[Item, asyncio.Task[None]] = {}

    def follow(self, early: Sequence[tuple[str, str]], pods: Mapping[str, PodRecord], desired: Desired) -> None:
        """Work on the first of these (pod, adapter) from now on; what is not among them any more is given up."""
        items: dict[Item, tuple[PodRecord, str]] = {}
        for pod, adapter in early:
            record, wanted = pods.get(pod), desired.adapters.get(adapter)
            if record is not None and wanted is not None and wanted.found is not None:
                items[record.uid, adapter, wanted.adapter.version] = (record, adapter)
        for item, task in self._tasks.items():
            if item not in items:
                task.cancel()
        if len(self._not_before) > MOST_REMEMBERED:
            self._not_before.clear()
        now = self._clock()
        for item, (record, adapter) in items.items():
            if len(self._tasks) >= AT_A_TIME:
                return
            if item not in self._tasks and self._not_before.get(item, 0.0) <= now:
                work = self._bring(item, record, desired, adapter)
                task = self._tasks[item] = asyncio.create_task(work, name=f"prefetch {adapter}")
                task.add_done_callback(lambda _, item=item: self._tasks.pop(item, None))  # type: ignore[misc]

    async def stop(self) -> None:
        for task in list(self._tasks.values()):
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _bring(self, item: Item, record: PodRecord, desired: Desired, adapter: str) -> None:
        self._not_before[item] = self._clock() + AGAIN_SECONDS
        try:
            await self._ways.prefetch(record, desired.adapters[adapter])
            self._not_before[item] = float("inf")
            log.debug("files of %s are on %s early", adapter, record.key)
        except Exception as error:
            # the load itself will say what is wrong, where people look for it
            log.debug("files of %s could not be brought to %s early: %s", adapter, record.key, type(error).__name__)
