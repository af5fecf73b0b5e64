"""What waits for a malware scan, and what follows from its verdict: nothing is served that was not found clean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from lora_library.catalogue import audit
from lora_library.catalogue.changing import newest_clean
from lora_library.catalogue.storing import changed
from lora_library.database import Database
from lora_library.model import ACTIVE, QUARANTINED, REJECTED
from lora_library.tables import LORAS, OBJECTS, VERSIONS

MOST_WAITED_SECONDS = 600.0
REASON_LENGTH = 500


@dataclass(frozen=True, slots=True)
class Waiting:
    object_id: str
    owner: str
    files: Sequence[Mapping[str, Any]]
    tries: int


async def due(database: Database, now: float, until: float) -> Waiting | None:
    """The one that has waited longest, which is the caller's alone until then."""
    waits = (OBJECTS.c.state == QUARANTINED) & (OBJECTS.c.scan_after <= now)
    query = select(OBJECTS).where(waits).order_by(OBJECTS.c.scan_after, OBJECTS.c.created_at).limit(1)
    async with database.writing() as connection:
        row = (await connection.execute(query)).one_or_none()
        if row is None:
            return None
        mine = update(OBJECTS).where(OBJECTS.c.id == row.id, waits).values(scan_after=until)
        if not (await connection.execute(mine)).rowcount:
            return None
    return Waiting(row.id, row.owner, row.files, row.scan_tries)


async def later(database: Database, waiting: Waiting, trouble: str, now: float) -> None:
    """There was no answer: again after a while, which grows. Until then it stays where it is."""
    wait = min(MOST_WAITED_SECONDS, 5.0 * 2 ** min(waiting.tries, 10))
    async with database.writing() as connection:
        await connection.execute(
            update(OBJECTS)
            .where(OBJECTS.c.id == waiting.object_id, OBJECTS.c.state == QUARANTINED)
            .values(scan_after=now + wait, scan_tries=waiting.tries + 1, verdict=trouble[:REASON_LENGTH])
        )


async def judged(
    database: Database, owner: str, object_id: str, *, clean: bool, reason: str, actor: str, now: float
) -> bool:
    """What is clean is served now; what is not never is, and no longer. False: it is gone."""
    async with database.writing() as connection:
        await database.lock_owner(connection, owner, now)
        state, reason = ACTIVE if clean else REJECTED, reason[:REASON_LENGTH]
        done = await connection.execute(
            update(OBJECTS)
            .where(OBJECTS.c.id == object_id, OBJECTS.c.owner == owner)
            .values(state=state, verdict=reason)
        )
        if not done.rowcount:
            return False
        query = select(LORAS).where(LORAS.c.id.in_(select(VERSIONS.c.lora).where(VERSIONS.c.object == object_id)))
        for lora in (await connection.execute(query)).all():
            await _follow(connection, lora, object_id, now)
            await audit.note(
                connection, "scan", actor=actor, owner=owner, lora=lora.id, now=now, name=lora.name, verdict=state,
                reason=reason,
            )  # fmt: skip
        await changed(connection, owner)
        return True


async def _follow(connection: AsyncConnection, lora: Any, object_id: str, now: float) -> None:
    """The newest clean version is served, if it is the one that was judged, or if what was is not clean."""
    query = (
        select(VERSIONS.c.number, VERSIONS.c.object, OBJECTS.c.state, OBJECTS.c.size_bytes)
        .join(OBJECTS, OBJECTS.c.id == VERSIONS.c.object)
        .where(VERSIONS.c.lora == lora.id)
    )
    versions = {row.number: row for row in await connection.execute(query)}
    newest, current = await newest_clean(connection, lora.id), versions[lora.current]
    values: dict[str, Any] = {"updated_at": now}
    if newest is not None:
        judged_one = versions[newest].object == object_id and not lora.pinned
        served = newest if judged_one or current.state != ACTIVE or lora.state != ACTIVE else lora.current
        values |= {"state": ACTIVE, "current": served, "size_bytes": versions[served].size_bytes}
    else:
        values["state"] = current.state
    await connection.execute(update(LORAS).where(LORAS.c.id == lora.id).values(**values))
