"""How much an owner has, and room that uploads take before their bytes are stored.

Whatever decides here has locked the owner's row: of two uploads that fit only singly, one is refused.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import delete, exists, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from lora_library.database import Database
from lora_library.model import Limits, Usage
from lora_library.problems import Problem
from lora_library.tables import LORAS, OBJECTS, OWNERS, RESERVATIONS, VERSIONS


async def usage_of(
    connection: AsyncConnection, subject: str, limits: Limits, now: float, *, without: Collection[str] = ()
) -> Usage:
    """What `subject` has now; the reservations `without` do not count."""
    row = (await connection.execute(select(OWNERS).where(OWNERS.c.subject == subject))).one_or_none()
    maximum_bytes = limits.quota_bytes if row is None or row.quota_bytes is None else row.quota_bytes
    maximum_adapters = limits.quota_adapters if row is None or row.quota_adapters is None else row.quota_adapters
    owned = select(func.coalesce(func.sum(OBJECTS.c.size_bytes), 0)).where(OBJECTS.c.owner == subject)
    living = exists().where(
        VERSIONS.c.object == OBJECTS.c.id, LORAS.c.id == VERSIONS.c.lora, LORAS.c.deleted_at.is_(None)
    )
    reserved = select(func.coalesce(func.sum(RESERVATIONS.c.size_bytes), 0)).where(
        RESERVATIONS.c.owner == subject, RESERVATIONS.c.expires_at > now, RESERVATIONS.c.id.not_in(without)
    )
    adapters = select(func.count()).where(LORAS.c.owner == subject, LORAS.c.deleted_at.is_(None))
    one = await connection.execute(
        select(
            owned.scalar_subquery(), owned.where(~living).scalar_subquery(), reserved.scalar_subquery(),
            adapters.scalar_subquery(),
        )
    )  # fmt: skip
    used, deleted, held, count = one.one()
    return Usage(int(used), int(held), maximum_bytes, int(count), maximum_adapters, int(deleted))


def check_bytes(usage: Usage, size_bytes: int) -> None:
    """Raises Problem (QUOTA_EXCEEDED) where so many more do not fit."""
    if size_bytes > usage.available_bytes:
        raise exceeded(
            f"{size_bytes} more bytes do not fit: {usage.used_bytes} of {usage.maximum_bytes} are used"
            + (f", and uploads under way take {usage.reserved_bytes}" if usage.reserved_bytes else "")
            + "; delete adapters for good, or ask an administrator for more",
            "bytes", usage.used_bytes + usage.reserved_bytes, usage.maximum_bytes,
        )  # fmt: skip


def check_adapters(usage: Usage) -> None:
    """Raises Problem (QUOTA_EXCEEDED) where no further adapter is allowed."""
    if usage.adapters >= usage.maximum_adapters:
        raise exceeded(
            f"there are {usage.adapters} adapters, and {usage.maximum_adapters} are allowed: delete one, or ask an "
            "administrator for more",
            "adapters", usage.adapters, usage.maximum_adapters,
        )  # fmt: skip


def exceeded(text: str, of: str, current: int, maximum: int) -> Problem:
    more: Mapping[str, Any] = {
        "quota": of, "current": current, "maximum": maximum, "available": max(0, maximum - current),
    }  # fmt: skip
    return Problem("QUOTA_EXCEEDED", text, **more)


async def reserve(
    database: Database, subject: str, reservation: str, size_bytes: int, limits: Limits, *, now: float, until: float,
    instead_of: Collection[str] = (),
) -> None:  # fmt: skip
    """Take room for an upload, or another amount for one that has some. It may take the place of other reservations,
    which end when it does. Raises Problem (QUOTA_EXCEEDED)."""
    async with database.writing() as connection:
        await database.lock_owner(connection, subject, now)
        usage = await usage_of(connection, subject, limits, now, without=(reservation, *instead_of))
        check_bytes(usage, size_bytes)
        changed = await connection.execute(
            update(RESERVATIONS).where(RESERVATIONS.c.id == reservation).values(size_bytes=size_bytes, expires_at=until)
        )
        if not changed.rowcount:
            await connection.execute(
                insert(RESERVATIONS).values(id=reservation, owner=subject, size_bytes=size_bytes, expires_at=until)
            )


async def renew(database: Database, reservation: str, until: float) -> None:
    """An upload goes on."""
    async with database.writing() as connection:
        await connection.execute(update(RESERVATIONS).where(RESERVATIONS.c.id == reservation).values(expires_at=until))


async def release(database: Database, reservation: str) -> None:
    """An upload has ended, and nothing is to come of it."""
    async with database.writing() as connection:
        await connection.execute(delete(RESERVATIONS).where(RESERVATIONS.c.id == reservation))
