"""Owners as administrators see them: what each has, and quotas of their own."""

from __future__ import annotations

from typing import Any

from sqlalchemy import func, select, update

from lora_library.catalogue import audit
from lora_library.database import Database
from lora_library.model import Limits, Principal, Usage
from lora_library.quota import usage_of
from lora_library.tables import LORAS, OBJECTS, OWNERS


async def quota(database: Database, subject: str, limits: Limits, now: float) -> Usage:
    async with database.reading() as connection:
        return await usage_of(connection, subject, limits, now)


async def set_quota(
    database: Database, admin: Principal, subject: str, values: dict[str, int | None], limits: Limits, now: float
) -> Usage:
    """`values`: quota_bytes and quota_adapters, None for the default. An owner may have none of anything yet."""
    async with database.writing() as connection:
        await database.lock_owner(connection, subject, now)
        if values:
            await connection.execute(update(OWNERS).where(OWNERS.c.subject == subject).values(**values))
        await audit.note(connection, "quota", actor=admin.subject, owner=subject, lora=None, now=now, **values)
        return await usage_of(connection, subject, limits, now)


async def users(database: Database, limits: Limits, *, limit: int, offset: int) -> tuple[list[dict[str, Any]], int]:
    """Owners by what they use, most first, and how many there are."""
    size = select(OBJECTS.c.owner, func.sum(OBJECTS.c.size_bytes).label("used")).group_by(OBJECTS.c.owner).subquery()
    count = (
        select(LORAS.c.owner, func.count().label("adapters"))
        .where(LORAS.c.deleted_at.is_(None))
        .group_by(LORAS.c.owner)
        .subquery()
    )
    used = func.coalesce(size.c.used, 0).label("used_bytes")
    query = (
        select(
            OWNERS.c.subject, OWNERS.c.created_at, used, func.coalesce(count.c.adapters, 0).label("adapters"),
            func.coalesce(OWNERS.c.quota_bytes, limits.quota_bytes).label("maximum_bytes"),
            func.coalesce(OWNERS.c.quota_adapters, limits.quota_adapters).label("maximum_adapters"),
        )
        .outerjoin(size, size.c.owner == OWNERS.c.subject)
        .outerjoin(count, count.c.owner == OWNERS.c.subject)
        .order_by(used.desc(), OWNERS.c.subject)
    )  # fmt: skip
    async with database.reading() as connection:
        total = (await connection.execute(select(func.count()).select_from(OWNERS))).scalar_one()
        rows = (await connection.execute(query.limit(limit).offset(offset))).mappings()
        return [{**row, "used_bytes": int(row["used_bytes"])} for row in rows], int(total)
