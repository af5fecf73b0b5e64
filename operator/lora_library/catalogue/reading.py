"""Which adapters somebody may see: their own, and what is shared with them. Another's are not there."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, String, bindparam, func, null, or_, select, union_all
from sqlalchemy.ext.asyncio import AsyncConnection

from lora_library.database import Database
from lora_library.model import Lora, Principal, Version
from lora_library.problems import not_found
from lora_library.tables import LORAS, OBJECTS, SHARES, TAGS, VERSIONS

SORTS = {
    "created_at": LORAS.c.created_at, "name": LORAS.c.name, "size": LORAS.c.size_bytes,
    "usage": func.coalesce(LORAS.c.last_used_at, 0.0),  # how often is not known
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
    state: str = ""  # as the database has it


async def find(database: Database, principal: Principal, listing: Listing) -> tuple[list[Lora], int]:
    """A page of what the principal may see, and how many there are in all."""
    return await database.read(partial(_find, principal, listing))


def _find(principal: Principal, listing: Listing, connection: Connection) -> tuple[list[Lora], int]:
    page, counting = _statements(
        listing.sort, listing.descending, listing.deleted, listing.mine or listing.deleted, bool(listing.search),
        bool(listing.base_model), bool(listing.state), len(listing.tags),
    )  # fmt: skip
    values = {
        "subject": principal.subject, "parties": principal.parties(), "search": _pattern(listing.search),
        "base_model": listing.base_model, "state": listing.state, "limit": listing.limit, "offset": listing.offset,
        **{f"tag_{number}": tag for number, tag in enumerate(listing.tags)},
    }  # fmt: skip
    rows = connection.execute(page, values).mappings().all()
    total = listing.offset + len(rows)
    if len(rows) == listing.limit or (listing.offset and not rows):
        total = int(connection.execute(counting, values).scalar_one())
    return their_own(connection, rows, principal), total


async def get(database: Database, principal: Principal, lora_id: str, *, own: bool = False) -> Lora:
    """One that is not deleted. Raises Problem (LORA_NOT_FOUND), for what is another's too; with `own` also for what is
    only shared."""
    allowed = LORAS.c.owner == principal.subject if own else visible(principal)
    query = select(LORAS).where(LORAS.c.id == lora_id, allowed, LORAS.c.deleted_at.is_(None))
    found = await database.read(partial(_read, query, principal))
    if not found:
        raise not_found(lora_id)
    return found[0]


async def by_name(database: Database, principal: Principal, owner: str, name: str) -> Lora | None:
    """The one that `owner` calls so, if the principal may see it."""
    query = select(LORAS).where(
        LORAS.c.owner == owner, LORAS.c.name == name, visible(principal), LORAS.c.deleted_at.is_(None)
    )
    found = await database.read(partial(_read, query, principal))
    return found[0] if found else None


def _read(query: Select[Any], principal: Principal, connection: Connection) -> list[Lora]:
    return their_own(connection, connection.execute(query).mappings().all(), principal)


async def owner_of(database: Database, lora_id: str) -> str | None:
    """Whoever asks: for administrators."""
    async with database.reading() as connection:
        return (await connection.execute(select(LORAS.c.owner).where(LORAS.c.id == lora_id))).scalar_one_or_none()


async def versions(database: Database, lora_id: str) -> list[Version]:
    """All that are kept, the newest first."""
    return await database.read(partial(_versions, [lora_id]))


async def versions_in(connection: AsyncConnection, loras: Sequence[str]) -> list[Version]:
    return await connection.run_sync(partial(_versions, loras))


def _versions(loras: Sequence[str], connection: Connection) -> list[Version]:
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
        for row in connection.execute(query)
    ]  # fmt: skip


async def with_their_own(
    connection: AsyncConnection, rows: Iterable[Any], principal: Principal | None = None
) -> list[Lora]:
    """Loras of rows, with tags and shares."""
    return await connection.run_sync(their_own, list(rows), principal)


def their_own(connection: Connection, rows: Sequence[Any], principal: Principal | None = None) -> list[Lora]:
    """Whom another's is shared with is not for the principal to know."""
    tags, shares = defaultdict(list), defaultdict(list)
    if rows:
        own = [row["id"] for row in rows if principal is None or row["owner"] == principal.subject]
        for lora, tag, party in connection.execute(_THEIR_OWN, {"ids": [row["id"] for row in rows], "own": own}):
            if tag is None:
                shares[lora].append(party)
            else:
                tags[lora].append(tag)
    return [Lora(**row, tags=tuple(tags[row["id"]]), shared_with=tuple(shares[row["id"]])) for row in rows]


# built once: to build a statement takes longer than to have it answered
_THEIR_OWN = union_all(
    select(TAGS.c.lora, TAGS.c.tag, null().label("party")).where(TAGS.c.lora.in_(bindparam("ids", expanding=True))),
    select(SHARES.c.lora, null(), SHARES.c.party).where(SHARES.c.lora.in_(bindparam("own", expanding=True))),
).order_by("tag", "party")


@lru_cache(maxsize=256)
def _statements(
    sort: str, descending: bool, deleted: bool, own: bool, search: bool, base_model: bool, state: bool, tags: int
) -> tuple[Select[Any], Select[Any]]:
    """A page of a list, and how many it has, with parameters for what is looked for."""
    mine = LORAS.c.owner == bindparam("subject")
    shared = select(SHARES.c.lora).where(SHARES.c.party.in_(bindparam("parties", expanding=True)))
    query = select(LORAS).where(mine if own else or_(mine, LORAS.c.id.in_(shared)))
    query = query.where(LORAS.c.deleted_at.is_not(None) if deleted else LORAS.c.deleted_at.is_(None))
    if search:
        pattern = func.lower(bindparam("search", type_=String))
        query = query.where(
            or_(*(func.lower(text).like(pattern, escape="/") for text in (LORAS.c.name, LORAS.c.description)))
        )
    if base_model:
        query = query.where(LORAS.c.base_model == bindparam("base_model"))
    if state:
        query = query.where(LORAS.c.state == bindparam("state"))
    for number in range(tags):
        tagged = select(TAGS.c.lora).where(TAGS.c.tag == bindparam(f"tag_{number}"))
        query = query.where(LORAS.c.id.in_(tagged))
    column = SORTS[sort]
    page = query.order_by(column.desc() if descending else column.asc(), LORAS.c.id)
    counting = select(func.count()).select_from(query.subquery())
    return page.limit(bindparam("limit")).offset(bindparam("offset")), counting


def _pattern(text: str) -> str:
    return "%" + text.replace("/", "//").replace("%", "/%").replace("_", "/_") + "%"


def visible(principal: Principal) -> ColumnElement[bool]:
    shared = select(SHARES.c.lora).where(SHARES.c.party.in_(principal.parties()))
    return or_(LORAS.c.owner == principal.subject, LORAS.c.id.in_(shared))
