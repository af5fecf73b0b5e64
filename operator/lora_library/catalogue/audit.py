"""Who did what to which adapter, and when."""

from __future__ import annotations

import secrets
from typing import Any

from sqlalchemy import delete, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from lora_library.database import Database
from lora_library.tables import AUDIT


async def note(
    connection: AsyncConnection, action: str, *, actor: str, owner: str, lora: str | None, now: float, **detail: Any
) -> None:
    """In the same transaction as what is noted: both are, or neither."""
    await connection.execute(
        insert(AUDIT).values(
            id=secrets.token_hex(16), at=now, actor=actor, owner=owner, action=action, lora=lora, detail=detail
        )
    )


async def entries(
    database: Database, *, owner: str | None, lora: str | None, limit: int, offset: int
) -> tuple[list[dict[str, Any]], int]:
    """The newest first, and how many there are in all."""
    query = select(AUDIT)
    if owner is not None:
        query = query.where(AUDIT.c.owner == owner)
    if lora is not None:
        query = query.where(AUDIT.c.lora == lora)
    async with database.reading() as connection:
        total = (await connection.execute(select(func.count()).select_from(query.subquery()))).scalar_one()
        page = query.order_by(AUDIT.c.at.desc(), AUDIT.c.id).limit(limit).offset(offset)
        return [dict(row) for row in (await connection.execute(page)).mappings()], int(total)


async def forget(connection: AsyncConnection, before: float, most: int) -> None:
    """What is older, and the oldest where there are more than `most`."""
    first_beyond = select(AUDIT.c.at).order_by(AUDIT.c.at.desc(), AUDIT.c.id).offset(most).limit(1)
    beyond = (await connection.execute(first_beyond)).scalar_one_or_none()
    await connection.execute(delete(AUDIT).where(AUDIT.c.at < before))
    if beyond is not None:
        await connection.execute(delete(AUDIT).where(AUDIT.c.at <= beyond))
