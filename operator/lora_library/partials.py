"""Files that come in pieces, over several requests, to whichever replica: of resumable uploads, and of the hub's API.

A piece is a key of the store, named by where it begins. How much has come is read there and nowhere remembered, so
nobody who is killed can leave a file and a number that differ. Its room is a reservation of the same id: counted in the
quota until it is used, dropped, or a day old.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from lora_library.catalogue.storing import forget_bytes
from lora_library.database import Database
from lora_library.model import Limits
from lora_library.names import partial_prefix
from lora_library.problems import Problem
from lora_library.quota import check_bytes, usage_of
from lora_library.stores.base import Store
from lora_library.tables import PARTIALS, RESERVATIONS

KEPT_SECONDS = 86_400.0
MOST_OF_ONE_OWNER = 200
MOST_PIECES = 10_000
_DIGITS = 15  # of where a piece begins, so that keys sort as they follow each other
UPLOAD, LFS, DRAFT, REPOSITORY = "upload", "lfs", "draft", "repository"


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to come: `name` is the adapter's, `path` the file's; `sha256` "" where it is not known before."""

    purpose: str
    size_bytes: int
    name: str = ""
    path: str = ""
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class Partial:
    id: str
    owner: str
    purpose: str
    name: str
    path: str
    sha256: str
    size_bytes: int
    created_at: float
    expires_at: float


async def begin(database: Database, subject: str, wish: Wish, limits: Limits, now: float) -> Partial:
    """Takes the room for all of it. Raises Problem: FILE_TOO_LARGE, QUOTA_EXCEEDED, TOO_MANY_UPLOADS."""
    if wish.size_bytes > limits.upload_bytes:
        raise Problem(
            "FILE_TOO_LARGE",
            f"an upload may have {limits.upload_bytes} bytes, and this one is to have {wish.size_bytes}",
            maximum=limits.upload_bytes,
        )
    async with database.writing() as connection:
        await database.lock_owner(connection, subject, now)
        count = select(func.count()).select_from(PARTIALS).where(PARTIALS.c.owner == subject)
        if (await connection.execute(count)).scalar_one() >= MOST_OF_ONE_OWNER:
            raise Problem(
                "TOO_MANY_UPLOADS", f"{MOST_OF_ONE_OWNER} of your uploads are unfinished: finish or delete some"
            )
        check_bytes(await usage_of(connection, subject, limits, now), wish.size_bytes)
        made = Partial(
            secrets.token_hex(16), subject, wish.purpose, wish.name, wish.path, wish.sha256, wish.size_bytes, now,
            now + KEPT_SECONDS,
        )  # fmt: skip
        await connection.execute(
            insert(RESERVATIONS).values(
                id=made.id, owner=subject, size_bytes=made.size_bytes, expires_at=made.expires_at
            )
        )
        columns = ("id", "owner", "purpose", "name", "path", "sha256", "size_bytes", "created_at")
        await connection.execute(insert(PARTIALS).values({name: getattr(made, name) for name in columns}))
    return made


async def find(
    database: Database, now: float, *, partial_id: str | None = None, owner: str | None = None,
    purposes: Collection[str] = (), name: str | None = None,
) -> list[Partial]:  # fmt: skip
    """Those that are not too old, the oldest first."""
    query = (
        select(PARTIALS, RESERVATIONS.c.expires_at)
        .join(RESERVATIONS, RESERVATIONS.c.id == PARTIALS.c.id)
        .where(RESERVATIONS.c.expires_at > now)
        .order_by(PARTIALS.c.created_at, PARTIALS.c.id)
    )
    for column, value in ((PARTIALS.c.id, partial_id), (PARTIALS.c.owner, owner), (PARTIALS.c.name, name)):
        if value is not None:
            query = query.where(column == value)
    if purposes:
        query = query.where(PARTIALS.c.purpose.in_(purposes))
    async with database.reading() as connection:
        return [Partial(**row) for row in (await connection.execute(query)).mappings()]


async def keep_on(database: Database, partial_id: str, now: float) -> None:
    """It goes on: a day from now."""
    async with database.writing() as connection:
        await connection.execute(
            update(RESERVATIONS).where(RESERVATIONS.c.id == partial_id).values(expires_at=now + KEPT_SECONDS)
        )


async def becomes_draft(database: Database, partial_id: str, name: str, path: str) -> None:
    """What came for a commit waits for the rest of the adapter."""
    async with database.writing() as connection:
        values = {"purpose": DRAFT, "name": name, "path": path}
        await connection.execute(update(PARTIALS).where(PARTIALS.c.id == partial_id).values(**values))


async def drop(database: Database, partials: Sequence[Partial], now: float) -> None:
    """They are used, or given up: rows now, bytes soon."""
    async with database.writing() as connection:
        await drop_in(connection, partials, now)


async def drop_in(connection: AsyncConnection, partials: Sequence[Partial], now: float) -> None:
    await forget_bytes(connection, [partial_prefix(each.owner, each.id) for each in partials], now)
    await connection.execute(delete(RESERVATIONS).where(RESERVATIONS.c.id.in_([each.id for each in partials])))


async def forget_expired(connection: AsyncConnection, now: float) -> None:
    query = (
        select(PARTIALS, RESERVATIONS.c.expires_at)
        .join(RESERVATIONS, RESERVATIONS.c.id == PARTIALS.c.id)
        .where(RESERVATIONS.c.expires_at < now)
    )
    await drop_in(connection, [Partial(**row) for row in (await connection.execute(query)).mappings()], now)


def add_piece(store: Store, partial: Partial, begins_at: int, file: Path) -> None:
    """Blocking. Raises StoreError."""
    store.put_file(f"{partial_prefix(partial.owner, partial.id)}/{begins_at:0{_DIGITS}d}", file)


def came(store: Store, partial: Partial) -> int:
    """How many bytes there are without a gap. Blocking. Raises StoreError, and Problem for too many pieces."""
    return _end(_pieces(store, partial))


def assemble(store: Store, partial: Partial, path: Path, take: Callable[[int], None]) -> str:
    """Writes the whole file, and returns its SHA-256. `take`: room for so many more bytes. Blocking. Raises StoreError,
    Problem: CONFLICT where it is not whole, INVALID_REQUEST where it is not what was announced."""
    pieces = _pieces(store, partial)
    if _end(pieces) != partial.size_bytes:
        raise Problem(
            "CONFLICT",
            f"{_end(pieces)} of {partial.size_bytes} bytes of {partial.path[:100]!r} have come: send the rest",
        )
    found, written = hashlib.sha256(), 0
    with path.open("xb") as out:
        for begins_at, _ in pieces:
            ahead = written - begins_at  # what an earlier piece had already
            for block in store.read(f"{partial_prefix(partial.owner, partial.id)}/{begins_at:0{_DIGITS}d}"):
                new = memoryview(block)[max(0, ahead) :]
                ahead -= len(block)
                take(len(new))
                out.write(new)
                found.update(new)
                written += len(new)
    if partial.sha256 and found.hexdigest() != partial.sha256:
        raise Problem("INVALID_REQUEST", f"{partial.path[:100]!r} is not the file that was announced: send it again")
    return found.hexdigest()


def _pieces(store: Store, partial: Partial) -> list[tuple[int, int]]:
    """Where each begins, and its size."""
    found = []
    for each in store.keys(f"{partial_prefix(partial.owner, partial.id)}/"):
        begins_at = each.key.rpartition("/")[2]
        if begins_at.isdecimal():
            found.append((int(begins_at), each.size_bytes))
        if len(found) > MOST_PIECES:
            raise Problem("INVALID_REQUEST", f"it came in more than {MOST_PIECES} pieces: begin anew, with larger ones")
    return sorted(found)


def _end(pieces: Sequence[tuple[int, int]]) -> int:
    end = 0
    for begins_at, size in pieces:
        if begins_at > end:
            break
        end = max(end, begins_at + size)
    return end
