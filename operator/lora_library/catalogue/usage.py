"""When adapters were last used, as others have recorded it. How often is recorded nowhere, and so not known here."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from typing import Any

from sqlalchemy import Row, select, update

from lora_library.catalogue import audit
from lora_library.database import Database
from lora_library.tables import LORAS

AT_A_TIME = 500
GRAIN_SECONDS = 1.0  # of what is recorded
UNKNOWN_ACTOR = ""  # a record does not say who it was


async def note_uses(database: Database, seen: Mapping[str, float], now: float) -> None:
    """`seen`: engine name -> when, in seconds since the epoch. First uses get a row of the audit log."""
    for some in _chunks(seen):
        later = [each for each in await _known(database, some) if _news(each.last_used_at, some[each.engine_name], now)]
        if later:
            await _write(database, {each.id: min(some[each.engine_name], now) for each in later}, now)


async def _known(database: Database, seen: Mapping[str, float]) -> list[Row[Any]]:
    query = select(LORAS.c.id, LORAS.c.engine_name, LORAS.c.last_used_at).where(
        LORAS.c.engine_name.in_(list(seen)), LORAS.c.deleted_at.is_(None)
    )
    async with database.reading() as connection:
        return list(await connection.execute(query))


def _news(known: float | None, at: float, now: float) -> bool:
    return known is None or min(at, now) > known


async def _write(database: Database, used: Mapping[str, float], now: float) -> None:
    """Another replica may do the same: what is later stays, and what is first is noted once."""
    async with database.writing() as connection:
        for lora_id, at in sorted(used.items()):
            # before it was there, another of its name was used
            since = (LORAS.c.id == lora_id) & (LORAS.c.created_at < at + GRAIN_SECONDS)
            first = await connection.execute(
                update(LORAS).where(since, LORAS.c.last_used_at.is_(None)).values(last_used_at=at)
                .returning(LORAS.c.owner, LORAS.c.name)
            )  # fmt: skip
            if (row := first.one_or_none()) is not None:
                await audit.note(
                    connection, "first use", actor=UNKNOWN_ACTOR, owner=row.owner, lora=lora_id, now=now,
                    name=row.name, used_at=at,
                )  # fmt: skip
                continue
            await connection.execute(update(LORAS).where(since, LORAS.c.last_used_at < at).values(last_used_at=at))


def _chunks(seen: Mapping[str, float]) -> Iterator[dict[str, float]]:
    entries = iter(sorted(seen.items()))
    while some := dict(itertools.islice(entries, AT_A_TIME)):
        yield some
