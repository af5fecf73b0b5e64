"""Counts uploads by how they end, how long it takes until new adapters can be called, and how full quotas are."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator

from sqlalchemy import Connection, func, select
from sqlalchemy.exc import SQLAlchemyError
from starlette.requests import ClientDisconnect

from lora_library.cluster.adapters import Adapters
from lora_library.cluster.resources import UNKNOWN, shown
from lora_library.database import Database
from lora_library.metrics import BANDS, LibraryMetrics
from lora_library.model import ACTIVE, Limits, Lora, Usage
from lora_library.names import InvalidName, resource_name
from lora_library.problems import Problem
from lora_library.stores.base import StoreError
from lora_library.tables import LORAS, OBJECTS, OWNERS

log = logging.getLogger(__name__)

MEASURE_SECONDS = 60.0
LOOK_SECONDS = 1.0
PATIENCE_SECONDS = 300.0
MOST_FOLLOWED = 32  # of more at a time, a sample


def code_of(error: BaseException) -> str:
    """What is answered for it."""
    if isinstance(error, Problem):
        return error.code
    kinds: tuple[tuple[type[BaseException] | tuple[type[BaseException], ...], str], ...] = (
        (InvalidName, "INVALID_NAME"), (ClientDisconnect, "INVALID_REQUEST"), (StoreError, "STORE_UNAVAILABLE"),
        ((SQLAlchemyError, ConnectionError, TimeoutError), "DATABASE_UNAVAILABLE"),
        (asyncio.CancelledError, "INVALID_REQUEST"),
    )  # fmt: skip
    return next((code for kind, code in kinds if isinstance(error, kind)), "INTERNAL")


class UploadCounts:
    """Of one replica. `adapters` is None where there is no cluster. To be closed."""

    def __init__(self, metrics: LibraryMetrics, adapters: Adapters | None) -> None:
        self._metrics, self._adapters = metrics, adapters
        self._following: set[asyncio.Task[None]] = set()

    @contextlib.contextmanager
    def one(self) -> Iterator[Callable[[Lora], None]]:
        """An upload; what it yields is called with what was stored."""
        began, stored = time.monotonic(), list[Lora]()
        self._metrics.under_way.inc()
        try:
            yield stored.append
        except BaseException as error:
            self._metrics.uploads.labels(code_of(error)).inc()
            raise
        finally:
            self._metrics.under_way.dec()
        self._metrics.uploads.labels("ok").inc()
        self._metrics.seconds.observe(time.monotonic() - began)
        for lora in stored:
            self._metrics.bytes.inc(lora.size_bytes)
            self._follow(lora)

    def close(self) -> None:
        for task in self._following:
            task.cancel()

    def _follow(self, lora: Lora) -> None:
        if self._adapters is None or lora.current != 1 or lora.state != ACTIVE or lora.deleted_at is not None:
            return
        if len(self._following) < MOST_FOLLOWED:
            task = asyncio.create_task(self._until_ready(self._adapters, lora), name="an adapter becomes ready")
            self._following.add(task)
            task.add_done_callback(self._following.discard)

    async def _until_ready(self, adapters: Adapters, lora: Lora) -> None:
        began = time.monotonic()
        name = resource_name(lora.owner, lora.base_model, lora.part)
        while time.monotonic() - began < PATIENCE_SECONDS:
            state = shown(await adapters.get(name), lora.engine_name).state
            if state != UNKNOWN:
                if state != "Failed":
                    self._metrics.ready_seconds.observe(time.time() - lora.created_at)
                return
            await asyncio.sleep(LOOK_SECONDS)


class Fullness:
    """How many users are in each band of their quotas."""

    def __init__(self, database: Database, limits: Limits, metrics: LibraryMetrics) -> None:
        self._database, self._limits, self._metrics = database, limits, metrics

    async def run(self) -> None:
        """For ever."""
        while True:
            try:
                await self.measure()
            except Exception as error:  # the database is away: the last figures stand
                log.warning("how full quotas are could not be read: %s", type(error).__name__)
            await asyncio.sleep(MEASURE_SECONDS)

    async def measure(self) -> None:
        counts = await self._database.read(self._counted)
        for band in BANDS.values():
            self._metrics.owners.labels(band).set(counts[band])

    def _counted(self, connection: Connection) -> Counter[str]:
        size = (
            select(OBJECTS.c.owner, func.sum(OBJECTS.c.size_bytes).label("used")).group_by(OBJECTS.c.owner).subquery()
        )
        having = (
            select(LORAS.c.owner, func.count().label("adapters"))
            .where(LORAS.c.deleted_at.is_(None)).group_by(LORAS.c.owner).subquery()
        )  # fmt: skip
        query = (
            select(OWNERS.c.quota_bytes, OWNERS.c.quota_adapters, size.c.used, having.c.adapters)
            .outerjoin(size, size.c.owner == OWNERS.c.subject).outerjoin(having, having.c.owner == OWNERS.c.subject)
        )  # fmt: skip
        return Counter(self._band(*row) for row in connection.execute(query))

    def _band(self, quota_bytes: int | None, quota_adapters: int | None, used: int | None, count: int | None) -> str:
        most_bytes = self._limits.quota_bytes if quota_bytes is None else quota_bytes
        most_adapters = self._limits.quota_adapters if quota_adapters is None else quota_adapters
        share = 100 * Usage(int(used or 0), 0, most_bytes, int(count or 0), most_adapters).utilisation
        return next((band for end, band in BANDS.items() if share < end), BANDS[100])
