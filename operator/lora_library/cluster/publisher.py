"""Brings store and cluster to what the database says of one owner, and again until they are there.

What is published is read from the store itself: each folder has a marker, written last, whose name says which object
it is a copy of. So whoever is killed anywhere in here leaves what the next round completes.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import select, update

from lora_library.catalogue.changing import forget_due
from lora_library.catalogue.reading import versions_in, with_their_own
from lora_library.cluster.adapters import Adapters
from lora_library.cluster.resources import Template, groups, resource
from lora_library.database import Database
from lora_library.model import Lora, Version
from lora_library.names import OWNER_DIGITS, digest, index_key, object_prefix, published_prefix
from lora_library.stores.base import Store, delete_below
from lora_library.tables import LORAS, OWNERS
from lora_operator.artifacts import CONFIG_FILE, WEIGHTS_FILE

log = logging.getLogger(__name__)

MARKER = ".object-"
LEASE_SECONDS = 120.0
PURGED = 1.0  # what was deleted before that is to go without delay
MOST_ROUNDS = 20


@dataclass(slots=True)
class _State:
    """What the database says of an owner at one revision."""

    revision: int
    loras: list[Lora]
    versions: dict[str, list[Version]]
    objects: dict[str, str] = field(default_factory=dict)  # id of an adapter -> object that is served


class Publisher:
    """`adapters` is None where there is no cluster. Raises StoreError, KubeError and the database's errors."""

    def __init__(
        self, database: Database, store: Store, adapters: Adapters | None, template: Template,
        clock: Callable[[], float] = time.time,
    ) -> None:  # fmt: skip
        self._database, self._store, self._adapters, self._template = database, store, adapters, template
        self._clock = clock
        self._me = secrets.token_hex(8)
        self._here: dict[str, asyncio.Lock] = {}

    async def publish(self, subject: str) -> None:
        """Until nothing is left to be done for this owner, or another replica does it."""
        lock = self._here.setdefault(subject, asyncio.Lock())
        async with lock:
            for _ in range(MOST_ROUNDS):
                if not await self._claim(subject):
                    break
                await self._round(subject)
        if not lock.locked():
            self._here.pop(subject, None)

    async def unpublished(self, limit: int = 100) -> list[str]:
        """Owners whose changes are not all told, and whom nobody is telling."""
        query = select(OWNERS.c.subject).where(
            OWNERS.c.revision != OWNERS.c.published_revision, OWNERS.c.publisher_until < self._clock()
        )
        # those that were tried longest ago: so no number of owners who cannot be told keeps others from it
        oldest = query.order_by(OWNERS.c.publisher_until, OWNERS.c.subject).limit(limit)
        async with self._database.reading() as connection:
            return list((await connection.execute(oldest)).scalars())

    async def _claim(self, subject: str) -> bool:
        now = self._clock()
        async with self._database.writing() as connection:
            claimed = await connection.execute(
                update(OWNERS)
                .where(
                    OWNERS.c.subject == subject, OWNERS.c.revision != OWNERS.c.published_revision,
                    (OWNERS.c.publisher == self._me) | (OWNERS.c.publisher_until < now),
                )
                .values(publisher=self._me, publisher_until=now + LEASE_SECONDS)
            )  # fmt: skip
            return bool(claimed.rowcount)

    async def _round(self, subject: str) -> None:
        try:
            state = await self._read(subject)
            served = groups(state.loras)
            await asyncio.to_thread(self._write_store, subject, state)
            if self._adapters is not None:
                bodies = [
                    resource(subject, group, loras, state.objects, self._template, self._store.source)
                    for group, loras in served.items()
                ]
                await self._write_cluster(subject, bodies)
            await asyncio.to_thread(self._withdraw, subject, state)
            await self._done(subject, state)
            await forget_due(self._database, subject, PURGED, self._clock())
        finally:
            async with self._database.writing() as connection:
                await connection.execute(
                    update(OWNERS)
                    .where(OWNERS.c.subject == subject, OWNERS.c.publisher == self._me)
                    .values(publisher_until=self._clock())
                )

    async def _read(self, subject: str) -> _State:
        async with self._database.reading() as connection:
            query = select(OWNERS.c.revision).where(OWNERS.c.subject == subject)
            revision = int((await connection.execute(query)).scalar_one())
            rows = (await connection.execute(select(LORAS).where(LORAS.c.owner == subject))).mappings().all()
            state = _State(revision, await with_their_own(connection, rows), {})
            for lora in state.loras:
                state.versions[lora.id] = await versions_in(connection, [lora.id])
        for lora in state.loras:
            current = next((each for each in state.versions[lora.id] if each.number == lora.current), None)
            if current is not None:
                state.objects[lora.id] = current.object_id
        return state

    def _wanted(self, subject: str, state: _State) -> dict[str, Lora]:
        """By the folder that each served adapter is published in."""
        return {
            f"{published_prefix(subject, *group)}/{lora.name}": lora
            for group, loras in groups(state.loras).items()
            for lora in loras
        }

    def _published(self, subject: str) -> dict[str, str]:
        """Folder -> object that it is a whole copy of, "" for none."""
        found: dict[str, str] = {}
        for each in self._store.keys(f"published/{digest(subject, OWNER_DIGITS)}/"):
            folder, _, name = each.key.rpartition("/")
            found.setdefault(folder, "")
            if name.startswith(MARKER):
                found[folder] = name.removeprefix(MARKER)
        return found

    def _write_store(self, subject: str, state: _State) -> None:
        there = self._published(subject)
        for folder, lora in self._wanted(subject, state).items():
            wanted, has = state.objects[lora.id], there.get(folder)
            if has != wanted:
                self._copy(object_prefix(subject, wanted), folder, has, wanted)
        for lora in state.loras:
            note = json.dumps(_note(lora, state.versions[lora.id]), sort_keys=True).encode()
            self._store.put(index_key(subject, lora.id), note)

    def _copy(self, source: str, folder: str, has: str | None, wanted: str) -> None:
        """The config goes first and comes last: a folder without one is no adapter, and the operator keeps what it
        has of one that was. So it never reads a config beside weights that are not its own."""
        if has is not None:
            self._store.delete(f"{folder}/{CONFIG_FILE}")
            self._store.delete(f"{folder}/{MARKER}{has}")
        self._store.copy(f"{source}/{WEIGHTS_FILE}", f"{folder}/{WEIGHTS_FILE}")
        self._store.copy(f"{source}/{CONFIG_FILE}", f"{folder}/{CONFIG_FILE}")
        self._store.put(f"{folder}/{MARKER}{wanted}", b"")

    async def _write_cluster(self, subject: str, bodies: list[dict[str, Any]]) -> None:
        assert self._adapters is not None
        for body in bodies:
            await self._adapters.apply(body)
        named = {body["metadata"]["name"] for body in bodies}
        for name in await self._adapters.names_of(subject) - named:
            await self._adapters.delete(name)

    def _withdraw(self, subject: str, state: _State) -> None:
        wanted = self._wanted(subject, state)
        for folder in self._published(subject):
            if folder not in wanted:
                delete_below(self._store, folder)

    async def _done(self, subject: str, state: _State) -> None:
        served = {lora.id for lora in self._wanted(subject, state).values()}
        async with self._database.writing() as connection:
            for lora in state.loras:
                published = lora.current if lora.id in served else 0
                if lora.published != published:
                    await connection.execute(update(LORAS).where(LORAS.c.id == lora.id).values(published=published))
            await connection.execute(
                update(OWNERS).where(OWNERS.c.subject == subject).values(published_revision=state.revision)
            )


def _note(lora: Lora, versions: list[Version]) -> Mapping[str, Any]:
    """What `rebuild` makes the rows of."""
    fields = (
        "id", "owner", "name", "base_model", "part", "description", "attributes", "state", "current", "pinned",
        "created_at", "updated_at", "deleted_at", "tags", "shared_with", "last_used_at",
    )  # fmt: skip
    return {
        **{name: getattr(lora, name) for name in fields},
        "versions": [
            {"number": each.number, "object": each.object_id, "created_at": each.created_at,
             "created_by": each.created_by, "card": each.card, "state": each.state, "verdict": each.verdict}
            for each in versions
        ],
    }  # fmt: skip
