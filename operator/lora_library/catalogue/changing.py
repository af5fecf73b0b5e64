"""What owners change of their adapters: words, sharing, the version that is served; deletion and its undoing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import delete, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from lora_library.catalogue import audit
from lora_library.catalogue.reading import with_their_own
from lora_library.catalogue.storing import changed, drop_unused_objects, forget_bytes, free_part, set_tags
from lora_library.database import Database
from lora_library.model import ACTIVE, Limits, Lora, Principal
from lora_library.names import check_name, engine_name, index_key
from lora_library.problems import Problem, not_found
from lora_library.quota import check_adapters, usage_of
from lora_library.tables import LORAS, OBJECTS, SHARES, VERSIONS


@dataclass(frozen=True, slots=True)
class Change:
    """None leaves a thing as it is."""

    name: str | None = None
    description: str | None = None
    tags: tuple[str, ...] | None = None
    shared_with: tuple[str, ...] | None = None
    attributes: Mapping[str, Any] | None = None
    version: int | None = None
    pinned: bool | None = None

    def said(self) -> dict[str, Any]:
        """For the audit log: which fields, and those values that say what is served to whom."""
        given = {key: getattr(self, key) for key in self.__dataclass_fields__ if getattr(self, key) is not None}
        shown = ("version", "pinned", "shared_with")
        told = {"fields": sorted(given)} | {key: given[key] for key in shown if key in given}
        return told | ({"new_name": self.name} if self.name is not None else {})


async def change(database: Database, principal: Principal, lora_id: str, wanted: Change, now: float) -> Lora:
    """Raises Problem: LORA_NOT_FOUND (also for what is only shared), NAME_TAKEN, INVALID_REQUEST."""
    async with database.writing() as connection:
        await database.lock_owner(connection, principal.subject, now)
        row = await _own(connection, principal, lora_id, deleted=False)
        values: dict[str, Any] = {"updated_at": now}
        if wanted.name is not None and wanted.name != row.name:
            check_name(wanted.name, row.base_model)
            values |= {"name": wanted.name, "engine_name": engine_name(row.owner, wanted.name)}
        for field in ("description", "pinned"):
            if getattr(wanted, field) is not None:
                values[field] = getattr(wanted, field)
        if wanted.attributes is not None:
            values["attributes"] = dict(wanted.attributes)
        if wanted.version is not None:
            values |= {"current": wanted.version, "size_bytes": await _size_of(connection, lora_id, wanted.version)}
        elif wanted.pinned is False and row.pinned:
            newest = await newest_clean(connection, lora_id)
            if newest is not None:
                values |= {"current": newest, "size_bytes": await _size_of(connection, lora_id, newest)}
        await _update(connection, lora_id, values, str(values.get("name", row.name)))
        if wanted.tags is not None:
            await set_tags(connection, lora_id, wanted.tags)
        if wanted.shared_with is not None:
            await connection.execute(delete(SHARES).where(SHARES.c.lora == lora_id))
            if shares := [{"lora": lora_id, "party": party} for party in sorted(set(wanted.shared_with))]:
                await connection.execute(insert(SHARES), shares)
        await changed(connection, row.owner)
        await _note(connection, "change", principal, row, now, **wanted.said())
        return await _now(connection, lora_id)


async def set_card(database: Database, principal: Principal, lora_id: str, number: int, card: str, now: float) -> None:
    """The README.md of a version. Raises Problem (LORA_NOT_FOUND)."""
    async with database.writing() as connection:
        await database.lock_owner(connection, principal.subject, now)
        row = await _own(connection, principal, lora_id, deleted=False)
        this = (VERSIONS.c.lora == lora_id) & (VERSIONS.c.number == number)
        await connection.execute(update(VERSIONS).where(this).values(card=card))
        await connection.execute(update(LORAS).where(LORAS.c.id == lora_id).values(updated_at=now))
        await changed(connection, row.owner)
        await _note(connection, "change", principal, row, now, fields=["card"], version=number)


async def remove(
    database: Database, principal: Principal, lora_id: str, limits: Limits, now: float, *, purge: bool = False
) -> None:
    """It is gone for everybody, and can be restored for a while; with `purge` it cannot. Raises Problem."""
    async with database.writing() as connection:
        await database.lock_owner(connection, principal.subject, now)
        row = await _own(connection, principal, lora_id, deleted=None if purge else False)
        # what was deleted at the beginning of time is due
        await connection.execute(
            update(LORAS).where(LORAS.c.id == lora_id).values(deleted_at=0.0 if purge else now, updated_at=now)
        )
        await _keep_few_deleted(connection, principal.subject, limits, now)
        await changed(connection, row.owner)
        await _note(connection, "purge" if purge else "delete", principal, row, now)


async def restore(database: Database, principal: Principal, lora_id: str, limits: Limits, now: float) -> Lora:
    """Raises Problem: LORA_NOT_FOUND, NAME_TAKEN by a newer one, QUOTA_EXCEEDED."""
    async with database.writing() as connection:
        await database.lock_owner(connection, principal.subject, now)
        row = await _own(connection, principal, lora_id, deleted=True)
        if not row.deleted_at:
            raise not_found(lora_id)  # a purge is under way
        check_adapters(await usage_of(connection, principal.subject, limits, now))
        part = await free_part(connection, row.owner, row.base_model)
        values = {"deleted_at": None, "updated_at": now, "part": part}
        await _update(connection, lora_id, values, row.name)
        await changed(connection, row.owner)
        await _note(connection, "restore", principal, row, now)
        return await _now(connection, lora_id)


async def forget_due(database: Database, subject: str, before: float, now: float) -> int:
    """Remove what was deleted before then and is no longer published: rows now, and bytes soon. How many."""
    async with database.writing() as connection:
        await database.lock_owner(connection, subject, now)
        due = select(LORAS.c.id).where(LORAS.c.owner == subject, LORAS.c.deleted_at < before, LORAS.c.published == 0)
        ids = list((await connection.execute(due)).scalars())
        if ids:
            await connection.execute(delete(VERSIONS).where(VERSIONS.c.lora.in_(ids)))
            await connection.execute(delete(LORAS).where(LORAS.c.id.in_(ids)))
            await drop_unused_objects(connection, subject, now)
            await forget_bytes(connection, [index_key(subject, each) for each in ids], now)
        return len(ids)


async def _keep_few_deleted(connection: AsyncConnection, subject: str, limits: Limits, now: float) -> None:
    """As many as there may be adapters; whoever uploads and deletes without end would else leave rows without end."""
    usage = await usage_of(connection, subject, limits, now)
    deleted = select(LORAS.c.id).where(LORAS.c.owner == subject, LORAS.c.deleted_at > 0)
    newest = deleted.order_by(LORAS.c.deleted_at.desc(), LORAS.c.id)
    ids = (await connection.execute(newest.offset(max(usage.maximum_adapters, limits.quota_adapters)))).scalars()
    await connection.execute(update(LORAS).where(LORAS.c.id.in_(list(ids))).values(deleted_at=0.0))


async def note_download(database: Database, principal: Principal, lora: Lora, file: str, now: float) -> None:
    async with database.writing() as connection:
        await _note(connection, "download", principal, lora, now, file=file)


async def _own(connection: AsyncConnection, principal: Principal, lora_id: str, *, deleted: bool | None) -> Any:
    query = select(LORAS).where(LORAS.c.id == lora_id, LORAS.c.owner == principal.subject)
    if deleted is not None:
        query = query.where(LORAS.c.deleted_at.is_not(None) if deleted else LORAS.c.deleted_at.is_(None))
    row = (await connection.execute(query)).one_or_none()
    if row is None:
        raise not_found(lora_id)
    return row


async def _update(connection: AsyncConnection, lora_id: str, values: Mapping[str, Any], name: str) -> None:
    try:
        async with connection.begin_nested():
            await connection.execute(update(LORAS).where(LORAS.c.id == lora_id).values(**values))
    except IntegrityError:
        raise Problem("NAME_TAKEN", f"you have another adapter {name!r}: rename or delete one") from None


async def _size_of(connection: AsyncConnection, lora_id: str, number: int) -> int:
    query = (
        select(OBJECTS.c.size_bytes, OBJECTS.c.state)
        .join(VERSIONS, VERSIONS.c.object == OBJECTS.c.id)
        .where(VERSIONS.c.lora == lora_id, VERSIONS.c.number == number)
    )
    found = (await connection.execute(query)).one_or_none()
    if found is None:
        raise Problem("INVALID_REQUEST", f"there is no version {number} any more: see the adapter's versions")
    if found.state != ACTIVE:
        raise Problem("QUARANTINED", f"version {number} is {found.state}: a scan has not found it clean")
    return int(found.size_bytes)


async def newest_clean(connection: AsyncConnection, lora_id: str) -> int | None:
    """The newest version that may be served."""
    query = (
        select(VERSIONS.c.number)
        .join(OBJECTS, OBJECTS.c.id == VERSIONS.c.object)
        .where(VERSIONS.c.lora == lora_id, OBJECTS.c.state == ACTIVE)
        .order_by(VERSIONS.c.number.desc())
        .limit(1)
    )
    return (await connection.execute(query)).scalar_one_or_none()


async def _now(connection: AsyncConnection, lora_id: str) -> Lora:
    rows = (await connection.execute(select(LORAS).where(LORAS.c.id == lora_id))).mappings().all()
    return (await with_their_own(connection, rows))[0]


async def _note(
    connection: AsyncConnection, action: str, principal: Principal, row: Any, now: float, **detail: Any
) -> None:
    await audit.note(
        connection, action, actor=principal.subject, owner=row.owner, lora=row.id, now=now, name=row.name, **detail
    )
