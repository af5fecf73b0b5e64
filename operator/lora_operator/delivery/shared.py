"""The sharedVolume way: the operator puts the files on a volume that the pods mount too, once for all of them."""

from __future__ import annotations

import asyncio
from pathlib import Path

from lora_operator.agent.fills import Fills
from lora_operator.cache.volume import StoreError, VolumeStore
from lora_operator.delivery.delivery_router import Locate, Report
from lora_operator.desired.adapters import DesiredAdapter
from lora_operator.fetch.fetcher import Fetcher
from lora_operator.fetch.manifest import FetchManifest
from lora_operator.informers.records import PodRecord

Key = tuple[str, str]


class SharedVolume:
    """Callers that wait for the same version share one fetch of it."""

    def __init__(self, store: VolumeStore, fetcher: Fetcher, locate: Locate) -> None:
        self._store = store
        self._fetcher = fetcher
        self._locate = locate
        self._under_way: dict[Key, tuple[asyncio.Task[None], bool]] = {}  # whether it is a prefetch
        self._reports: dict[Key, list[Report]] = {}
        self._fills = Fills()

    async def bring(self, record: PodRecord, wanted: DesiredAdapter, report: Report) -> None:
        """See `Delivery`."""
        key = (wanted.adapter.name, wanted.adapter.version)
        reports = self._reports.setdefault(key, [])
        reports.append(report)
        try:
            await self._join(key, wanted, prefetch=False)
        finally:
            reports.remove(report)
            if not reports:
                del self._reports[key]

    async def prefetch(self, record: PodRecord, wanted: DesiredAdapter) -> None:
        """See `Delivery`."""
        await self._join((wanted.adapter.name, wanted.adapter.version), wanted, prefetch=True)

    async def stop(self) -> None:
        """Cut off what is being fetched; it goes on from there the next time."""
        await self._fills.stop()
        tasks = [task for task, _ in self._under_way.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _join(self, key: Key, wanted: DesiredAdapter, *, prefetch: bool) -> None:
        task, ahead = self._under_way.get(key, (None, False))
        if task is None:
            task = asyncio.create_task(self._publish(key, wanted, prefetch), name=f"files of {wanted.adapter.name}")
            self._under_way[key] = task, prefetch
            task.add_done_callback(lambda done: self._ended(key, done))
        # the others still wait for it when one of them is cancelled
        await asyncio.shield(task)
        if ahead and not prefetch:
            await self._store.use(*key)  # it was fetched ahead, and just in time

    def _ended(self, key: Key, done: asyncio.Task[None]) -> None:
        del self._under_way[key]
        if not done.cancelled():
            done.exception()  # if everybody who waited for it was cancelled, nobody else asks

    async def _publish(self, key: Key, wanted: DesiredAdapter, prefetch: bool) -> None:
        adapter = wanted.adapter
        if await (self._store.has(*key) if prefetch else self._store.use(*key)):
            return
        if wanted.found is None:
            raise StoreError(
                "SourceUnavailable",
                f"version {adapter.version} of {adapter.name} is not in the adapter volume, and its source cannot "
                "be read now; see the SourceReady condition",
                retryable=True,
            )
        origin = await self._locate(wanted)
        if isinstance(origin, Path):
            await self._store.publish(wanted.found, origin)
        else:
            await self._fetch(key, wanted, origin, prefetch)

    async def _fetch(self, key: Key, wanted: DesiredAdapter, order: FetchManifest, prefetch: bool) -> None:
        async def renew() -> FetchManifest:
            located = await self._locate(wanted)
            assert isinstance(located, FetchManifest)  # a source has one way of giving files
            return located

        def report(done_bytes: int) -> None:
            for each in self._reports.get(key, ()):
                each(done_bytes)

        async def fill(folder: Path) -> None:
            with self._fills.one():
                await self._fetcher.fetch(order, folder, renew=renew, report=report)

        sizes = {file.path: file.size_bytes for file in order.files}
        await self._store.add(*key, sizes, fill, prefetch=prefetch)
