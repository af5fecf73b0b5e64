"""An upload becomes an adapter, or a new version of one: in one transaction, with the quota looked at for good."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from sqlalchemy import delete, exists, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from lora_library.catalogue import audit
from lora_library.catalogue.reading import with_their_own
from lora_library.database import Database
from lora_library.model import ACTIVE, REJECTED, Limits, Lora, NewVersion, Principal
from lora_library.names import engine_name, object_prefix, partial_prefix
from lora_library.problems import Problem
from lora_library.quota import check_adapters, check_bytes, usage_of
from lora_library.tables import LORAS, OBJECTS, OWNERS, REMOVALS, RESERVATIONS, TAGS, VERSIONS

PART_SIZE = 200  # adapters in one LoraAdapter: spec and status of so many stay far below what an object may have


class NotStored(Exception):
    """Nothing has the bytes any more that an upload relied on."""


async def known_object(database: Database, subject: str, fingerprint: str) -> bool:
    """Whether this owner has these very files already."""
    async with database.reading() as connection:
        return await _object(connection, subject, fingerprint) is not None


async def settle(
    database: Database, principal: Principal, new: NewVersion, limits: Limits, now: float, *, stored: bool = True
) -> Lora:
    """The adapter with its new version. Its reservation is gone afterwards.

    Raises:
        Problem: QUOTA_EXCEEDED, or NAME_TAKEN by an adapter of another base model.
        NotStored: not `stored` by this upload, since the owner had the same, which is gone.
    """
    subject = principal.subject
    async with database.writing() as connection:
        await database.lock_owner(connection, subject, now)
        usage = await usage_of(connection, subject, limits, now, without=(new.object_id, *new.consumed))
        row = (
            await connection.execute(
                select(LORAS).where(LORAS.c.owner == subject, LORAS.c.name == new.name, LORAS.c.deleted_at.is_(None))
            )
        ).one_or_none()
        if row is not None and row.base_model != new.base_model:
            raise Problem(
                "NAME_TAKEN",
                f"you have an adapter {new.name!r} for {row.base_model}, and this one is for {new.base_model}: give it "
                "another name, or delete the other",
            )
        if row is None:
            check_adapters(usage)
        found = await _object(connection, subject, new.fingerprint)
        object_id, state = (new.object_id, new.state) if found is None else (found.id, found.state)
        if state == REJECTED:
            raise Problem(
                "ADAPTER_REFUSED", f"a scan has rejected these very files: {found.verdict}", reason="Rejected"
            )
        if found is None:
            if not stored:
                raise NotStored
            check_bytes(usage, new.size_bytes)
            await connection.execute(
                insert(OBJECTS).values(
                    id=object_id, owner=subject, fingerprint=new.fingerprint, size_bytes=new.size_bytes,
                    created_at=now, files=list(new.files), described=dict(new.described), state=state,
                )
            )  # fmt: skip
        elif object_id != new.object_id:
            await forget_bytes(connection, [object_prefix(subject, new.object_id)], now)
        await forget_bytes(connection, [partial_prefix(subject, each) for each in new.consumed], now)
        ended = [new.object_id, *new.consumed]
        await connection.execute(delete(RESERVATIONS).where(RESERVATIONS.c.id.in_(ended)))
        new = replace(new, object_id=object_id, state=state)
        lora_id = await _adapter(connection, subject, new, now) if row is None else row.id
        number = await _version(connection, principal, lora_id, new, row, now)
        if new.tags is not None:
            await set_tags(connection, lora_id, new.tags)
        await _keep_few(connection, lora_id, limits.versions_kept)
        await drop_unused_objects(connection, subject, now)
        await changed(connection, subject)
        await audit.note(
            connection, "upload", actor=subject, owner=subject, lora=lora_id, now=now, name=new.name, version=number,
            size_bytes=new.size_bytes,
        )  # fmt: skip
        rows = (await connection.execute(select(LORAS).where(LORAS.c.id == lora_id))).mappings().all()
        return (await with_their_own(connection, rows))[0]


async def _object(connection: AsyncConnection, subject: str, fingerprint: str) -> Any:
    query = select(OBJECTS).where(OBJECTS.c.owner == subject, OBJECTS.c.fingerprint == fingerprint)
    return (await connection.execute(query)).one_or_none()


async def _adapter(connection: AsyncConnection, subject: str, new: NewVersion, now: float) -> str:
    lora_id = secrets.token_hex(16)
    await connection.execute(
        insert(LORAS).values(
            id=lora_id, owner=subject, name=new.name, base_model=new.base_model,
            engine_name=engine_name(subject, new.name),
            part=await free_part(connection, subject, new.base_model), description=new.description or "",
            attributes=dict(new.attributes or {}), state=new.state, current=0, pinned=False,
            size_bytes=new.size_bytes, created_at=now, updated_at=now,
        )
    )  # fmt: skip
    return lora_id


async def free_part(connection: AsyncConnection, subject: str, base_model: str) -> int:
    """The first of the owner's LoraAdapters for this base model that has room."""
    parts = await connection.execute(
        select(LORAS.c.part).where(
            LORAS.c.owner == subject, LORAS.c.base_model == base_model, LORAS.c.deleted_at.is_(None)
        )
    )
    taken = Counter(parts.scalars())
    return next(part for part in range(len(taken) + 1) if taken[part] < PART_SIZE)


async def _version(
    connection: AsyncConnection, principal: Principal, lora_id: str, new: NewVersion, row: Any, now: float
) -> int:
    """The number of the version. What is the newest already is no new one: an upload may be sent twice."""
    newest = (
        await connection.execute(
            select(VERSIONS).where(VERSIONS.c.lora == lora_id).order_by(VERSIONS.c.number.desc()).limit(1)
        )
    ).one_or_none()
    card = new.card if new.card is not None else "" if newest is None else newest.card
    if newest is not None and newest.object == new.object_id:
        number = int(newest.number)
        this = (VERSIONS.c.lora == lora_id) & (VERSIONS.c.number == number)
        await connection.execute(update(VERSIONS).where(this).values(card=card))
    else:
        number = 1 if newest is None else int(newest.number) + 1
        await connection.execute(
            insert(VERSIONS).values(
                lora=lora_id, number=number, object=new.object_id, created_at=now, created_by=principal.subject,
                card=card,
            )
        )  # fmt: skip
    values: dict[str, Any] = {"updated_at": now}
    # what waits for a scan takes the place of nothing that is served
    if row is None or row.state != ACTIVE or (new.state == ACTIVE and not row.pinned):
        values |= {"current": number, "size_bytes": new.size_bytes, "state": new.state}
    if new.description is not None:
        values["description"] = new.description
    if new.attributes is not None:
        values["attributes"] = dict(new.attributes)
    await connection.execute(update(LORAS).where(LORAS.c.id == lora_id).values(**values))
    return number


async def set_tags(connection: AsyncConnection, lora_id: str, tags: Iterable[str]) -> None:
    await connection.execute(delete(TAGS).where(TAGS.c.lora == lora_id))
    if rows := [{"lora": lora_id, "tag": tag} for tag in sorted(set(tags))]:
        await connection.execute(insert(TAGS), rows)


async def _keep_few(connection: AsyncConnection, lora_id: str, kept: int) -> None:
    """The last few versions, and the current one."""
    current = select(LORAS.c.current).where(LORAS.c.id == lora_id).scalar_subquery()
    numbers = await connection.execute(
        select(VERSIONS.c.number)
        .where(VERSIONS.c.lora == lora_id, VERSIONS.c.number != current)
        .order_by(VERSIONS.c.number.desc())
        .offset(max(0, kept - 1))
    )
    old = list(numbers.scalars())
    await connection.execute(delete(VERSIONS).where(VERSIONS.c.lora == lora_id, VERSIONS.c.number.in_(old)))


async def drop_unused_objects(connection: AsyncConnection, subject: str, now: float) -> None:
    """Objects that no version has any more, with a note that their bytes have to go."""
    unused = select(OBJECTS.c.id).where(OBJECTS.c.owner == subject, ~exists().where(VERSIONS.c.object == OBJECTS.c.id))
    ids = list((await connection.execute(unused)).scalars())
    await connection.execute(delete(OBJECTS).where(OBJECTS.c.id.in_(ids)))
    await forget_bytes(connection, [object_prefix(subject, each) for each in ids], now)


async def forget_bytes(connection: AsyncConnection, prefixes: Iterable[str], now: float) -> None:
    """Note what has to go from the store."""
    for prefix in prefixes:
        known = (await connection.execute(select(func.count()).where(REMOVALS.c.prefix == prefix))).scalar_one()
        if not known:
            await connection.execute(insert(REMOVALS).values(prefix=prefix, noted_at=now))


async def changed(connection: AsyncConnection, subject: str) -> None:
    """Store and cluster have to be told."""
    await connection.execute(update(OWNERS).where(OWNERS.c.subject == subject).values(revision=OWNERS.c.revision + 1))
