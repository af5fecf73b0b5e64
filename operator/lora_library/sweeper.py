"""Finishes what was left behind: changes that were not told, bytes without a row, reservations that ran out, what was
deleted long enough ago. Every replica may do so; all of it can be done twice.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from sqlalchemy import delete, select

from lora_library import partials
from lora_library.catalogue import audit
from lora_library.catalogue.changing import forget_due
from lora_library.cluster.publisher import Publisher
from lora_library.database import Database
from lora_library.model import Limits
from lora_library.stores.base import Store, delete_below
from lora_library.tables import LORAS, OBJECTS, REMOVALS, RESERVATIONS

log = logging.getLogger(__name__)

GRACE_SECONDS = 3600.0  # an object without row and reservation that is younger may be of an upload under way
BROKEN_OFF_SECONDS = 86_400.0


class Sweeper:
    def __init__(
        self, database: Database, store: Store, publisher: Publisher, limits: Limits, *, period_seconds: float,
        audit_seconds: float, audit_entries: int = 1_000_000, grace_seconds: float = GRACE_SECONDS,
        clock: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        self._database, self._store, self._publisher, self._limits = database, store, publisher, limits
        self._period_seconds, self._audit_seconds, self._grace_seconds = period_seconds, audit_seconds, grace_seconds
        self._audit_entries, self._clock = audit_entries, clock

    async def run(self) -> None:
        """For ever. Changes that were not told are looked for often, as nobody can call what is not published."""
        swept_at = -1e9
        while True:
            try:
                if time.monotonic() - swept_at >= self._period_seconds:
                    await self.sweep()
                    swept_at = time.monotonic()
                else:
                    await self.publish()
            except Exception as error:
                log.warning("sweeping failed, and is tried again: %s: %s", type(error).__name__, error)
            await asyncio.sleep(min(10.0, self._period_seconds))

    async def sweep(self) -> None:
        """All of it, once."""
        now = self._clock()
        await self.publish()
        await self._forget(now)
        await self._remove_bytes()
        await self._remove_orphans(now)
        await asyncio.to_thread(self._store.tidy, now - BROKEN_OFF_SECONDS)

    async def publish(self) -> None:
        for subject in await self._publisher.unpublished():
            try:
                await self._publisher.publish(subject)
            except Exception as error:  # another owner's may go
                log.warning("an owner's adapters are not published yet: %s: %s", type(error).__name__, error)

    async def _forget(self, now: float) -> None:
        before = now - self._limits.restore_seconds
        async with self._database.reading() as connection:
            query = select(LORAS.c.owner).where(LORAS.c.deleted_at < before, LORAS.c.published == 0).distinct()
            owners = list((await connection.execute(query)).scalars())
        for subject in owners:
            count = await forget_due(self._database, subject, before, now)
            log.info("%d deleted adapters of one owner are gone for good", count)
        async with self._database.writing() as connection:
            await partials.forget_expired(connection, now)
            await connection.execute(delete(RESERVATIONS).where(RESERVATIONS.c.expires_at < now))
            await audit.forget(connection, now - self._audit_seconds, self._audit_entries)

    async def _remove_bytes(self) -> None:
        async with self._database.reading() as connection:
            prefixes = list((await connection.execute(select(REMOVALS.c.prefix))).scalars())
        for prefix in prefixes:
            await asyncio.to_thread(delete_below, self._store, prefix)
            async with self._database.writing() as connection:
                await connection.execute(delete(REMOVALS).where(REMOVALS.c.prefix == prefix))

    async def _remove_orphans(self, now: float) -> None:
        """Listed first and compared afterwards: what got its row meanwhile is no orphan."""
        newest: dict[str, float] = {}
        for each in await asyncio.to_thread(lambda: [*self._store.keys("objects/"), *self._store.keys("partials/")]):
            prefix = "/".join(each.key.split("/")[:3])
            newest[prefix] = max(newest.get(prefix, 0.0), each.modified_at)
        async with self._database.reading() as connection:
            known = set((await connection.execute(select(OBJECTS.c.id))).scalars())
            known |= set((await connection.execute(select(RESERVATIONS.c.id))).scalars())
        for prefix, modified_at in newest.items():
            if prefix.rpartition("/")[2] not in known and modified_at < now - self._grace_seconds:
                log.info("removing %s, which belongs to no adapter", prefix)
                await asyncio.to_thread(delete_below, self._store, prefix)
