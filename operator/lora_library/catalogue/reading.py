"""Which adapters somebody may see: their own, and what is shared with them. Another's are not there."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Select, func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from lora_library.database import Database
from lora_library.model import Lora, Principal, Version
from lora_library.problems import not_found
from lora_library.tables import LORAS, OBJECTS, SHARES, TAGS, VERSIONS

SORTS = {
    "created_at": LORAS.c.created_at, "name": LORAS.c.name, "size": LORAS.c.size_bytes, "usage": LORAS.c.usage_count,
}  # fmt: skip
MOST = 500


@dataclass(frozen=True, slots=True)
class Listing:
    """What a list is asked for. `tags`: all of them."""

    search: str = ""
    tags: tuple[str, ...] = ()
    base_model: str = ""
    sort: str = "created_at"
    descending: bool = True
    limit: int = 50
    offset: int = 0
    deleted: bool = False  # those that can be restored, instead of the others
    mine: bool = False  # without what is shared


async def find(database: Database, principal: Principal, listing: Listing) -> tuple[list[Lora], int]:
    """A page of what the principal may see, and how many there are in all."""
    query = _matching(principal, listing)
    column = SORTS[listing.sort]
    ordered = query.order_by(column.desc() if listing.descending else column.asc(), LORAS.c.id)
    async with database.reading() as connection:
        total = (await connection.execute(select(func.count()).select_from(query.subquery()))).scalar_one()
        rows = (await connection.execute(ordered.limit(listing.limit).offset(listing.offset))).mappings().all()
        return await with_their_own(connection, rows, principal), int(total)


async def get(database: Database, principal: Principal, lora_id: str, *, own: bool = False) -> Lora:
    """One that is not deleted. Raises Problem (LORA_NOT_FOUND), for what is another's too; with `own` also for what is
    only shared."""
    async with database.reading() as connection:
        allowed = LORAS.c.owner == principal.subject if own else visible(principal)
        query = select(LORAS).where(LORAS.c.id == lora_id, allowed, LORAS.c.deleted_at.is_(None))
        rows = (await connection.execute(query)).mappings().all()
        found = await with_their_own(connection, rows, principal)
    if not found:
        raise not_found(lora_id)
    return found[0]


async def by_name(database: Database, principal: Principal, owner: str, name: str) -> Lora | None:
    """The one that `owner` calls so, if the principal may see it."""
    async with database.reading() as connection:
        query = select(LORAS).where(
            LORAS.c.owner == owner, LORAS.c.name == name, visible(principal), LORAS.c.deleted_at.is_(None)
        )
        found = await with_their_own(connection, (await connection.execute(query)).mappings().all(), principal)
    return found[0] if found else None


async def owner_of(database: Database, lora_id: str) -> str | None:
    """Whoever asks: for administrators."""
    async with database.reading() as connection:
        return (await connection.execute(select(LORAS.c.owner).where(LORAS.c.id == lora_id))).scalar_one_or_none()


async def versions(database: Database, lora_id: str) -> list[Version]:
    """All that are kept, the newest first."""
    async with database.reading() as connection:
        return await versions_in(connection, [lora_id])


async def versions_in(connection: AsyncConnection, loras: Sequence[str]) -> list[Version]:
    query = (
        select(
            VERSIONS, OBJECTS.c.fingerprint, OBJECTS.c.size_bytes, OBJECTS.c.files, OBJECTS.c.described,
            OBJECTS.c.state, OBJECTS.c.verdict,
        )
        .join(OBJECTS, OBJECTS.c.id == VERSIONS.c.object)
        .where(VERSIONS.c.lora.in_(loras))
        .order_by(VERSIONS.c.number.desc())
    )  # fmt: skip
    return [
        Version(
            row.number, row.created_at, row.created_by, row.object, row.fingerprint, row.size_bytes,
            tuple(row.files), row.described, row.card, row.state, row.verdict,
        )
        for row in await connection.execute(query)
    ]  # fmt: skip


async def with_their_own(
    connection: AsyncConnection, rows: Iterable[Any], principal: Principal | None = None
) -> list[Lora]:
    """Loras of rows, with tags and shares. Whom another's is shared with is not for the principal to know."""
    rows = list(rows)
    ids = [row["id"] for row in rows]
    tags, shares = defaultdict(list), defaultdict(list)
    for tag in await connection.execute(select(TAGS).where(TAGS.c.lora.in_(ids)).order_by(TAGS.c.tag)):
        tags[tag.lora].append(tag.tag)
    for share in await connection.execute(select(SHARES).where(SHARES.c.lora.in_(ids)).order_by(SHARES.c.party)):
        shares[share.lora].append(share.party)
    return [
        Lora(
            **row,
            tags=tuple(tags[row["id"]]),
            shared_with=tuple(shares[row["id"]]) if principal is None or row["owner"] == principal.subject else (),
        )
        for row in rows
    ]


def visible(principal: Principal) -> ColumnElement[bool]:
    shared = select(SHARES.c.lora).where(SHARES.c.party.in_(principal.parties()))
    return or_(LORAS.c.owner == principal.subject, LORAS.c.id.in_(shared))


def _matching(principal: Principal, listing: Listing) -> Select[Any]:
    own = listing.mine or listing.deleted
    query = select(LORAS).where(LORAS.c.owner == principal.subject if own else visible(principal))
    query = query.where(LORAS.c.deleted_at.is_not(None) if listing.deleted else LORAS.c.deleted_at.is_(None))
    if listing.search:
        query = query.where(
            or_(
                LORAS.c.name.icontains(listing.search, autoescape=True),
                LORAS.c.description.icontains(listing.search, autoescape=True),
            )
        )
    if listing.base_model:
        query = query.where(LORAS.c.base_model == listing.base_model)
    for tag in listing.tags:
        query = query.where(LORAS.c.id.in_(select(TAGS.c.lora).where(TAGS.c.tag == tag)))
    return query
