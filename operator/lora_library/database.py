"""The database: SQLite in a file for one replica, PostgreSQL for several.

`writing` is one transaction that sees what all before it wrote: SQLite lets one in at a time, and PostgreSQL has
`lock_owner` for what must be decided once for each owner.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, TypeVar

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, Engine, create_engine, event, insert, select, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from lora_library.tables import OWNERS

T = TypeVar("T")
BUSY_SECONDS = 30
POOL_SECONDS = 10.0
_MIGRATION_LOCK = 0x10A4_11B5  # any number that all replicas agree on


class BadDatabase(Exception):
    """The database's address cannot be used; the message says why."""


class Database:
    """Open with `connect`, end with `close`. Raises SQLAlchemy's errors, and OSError where nothing answers."""

    def __init__(self, address: str) -> None:
        """`address` is a path or sqlite:///path, or postgresql://user:password@host/name.

        Raises:
            BadDatabase: it is neither.
        """
        url = address if "://" in address else f"sqlite:///{address}"
        try:
            parsed = make_url(url)
        except ArgumentError:
            raise BadDatabase(
                "the database is neither a path nor an address like postgresql://user@host/name"
            ) from None
        kind = parsed.get_backend_name()
        drivers = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg", "postgres": "postgresql+asyncpg"}
        if kind not in drivers:
            raise BadDatabase(f"the database is of type {kind}: use a path for SQLite, or postgresql://")
        self.is_sqlite = kind == "sqlite"
        self._one_writer: asyncio.Lock | None = asyncio.Lock() if self.is_sqlite else None
        options: dict[str, Any] = {"connect_args": {"timeout": BUSY_SECONDS}} if self.is_sqlite else {
            "pool_pre_ping": True, "connect_args": {"timeout": POOL_SECONDS, "command_timeout": BUSY_SECONDS},
        }  # fmt: skip
        self.engine: AsyncEngine = create_async_engine(
            parsed.set(drivername=drivers[kind]), pool_size=8, max_overflow=8, pool_timeout=POOL_SECONDS, **options
        )
        # what only reads does so in one step of one thread: to change threads takes longer than most questions
        self._readers: Engine | None = None
        if self.is_sqlite:
            _as_sqlite_should(self.engine.sync_engine)
            self._readers = create_engine(
                parsed.set(drivername="sqlite+pysqlite"), pool_size=8, max_overflow=8, pool_timeout=POOL_SECONDS,
                **options,
            )  # fmt: skip
            _as_sqlite_should(self._readers)

    async def migrate(self) -> None:
        """Bring the tables up to date; one replica at a time."""
        async with self.writing() as connection:
            if not self.is_sqlite:
                await connection.execute(text("SELECT pg_advisory_xact_lock(:n)"), {"n": _MIGRATION_LOCK})
            await connection.run_sync(_upgrade)

    @contextlib.asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        async with self.engine.connect() as connection:
            yield connection

    async def read(self, question: Callable[[Connection], T]) -> T:
        """What `question` answers: it may only read, and computes little."""
        if self._readers is not None:
            return await asyncio.to_thread(_asked, self._readers, question)
        async with self.reading() as connection:
            return await connection.run_sync(question)

    @contextlib.asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncConnection]:
        """One transaction, committed at the end, rolled back by an exception."""
        async with self._one_writer or contextlib.nullcontext(), self.engine.connect() as connection:
            await connection.execution_options(writes=True)
            async with connection.begin():
                yield connection

    async def lock_owner(self, connection: AsyncConnection, subject: str, now: float) -> Any:
        """The row of an owner, made where there is none; no other transaction has it until this one ends."""
        found = (await connection.execute(_locked(subject))).one_or_none()
        if found is None:
            with contextlib.suppress(IntegrityError):  # another was faster
                async with connection.begin_nested():
                    await connection.execute(insert(OWNERS).values(subject=subject, created_at=now))
            found = (await connection.execute(_locked(subject))).one()
        return found

    async def ping(self) -> None:
        async with self.reading() as connection:
            await connection.execute(text("SELECT 1"))

    async def close(self) -> None:
        await self.engine.dispose()
        if self._readers is not None:
            self._readers.dispose()


def _asked(engine: Engine, question: Callable[[Connection], T]) -> T:
    with engine.connect() as connection:
        return question(connection)


def _locked(subject: str) -> Any:
    return select(OWNERS).where(OWNERS.c.subject == subject).with_for_update()  # SQLite has one writer anyway


def _upgrade(connection: Connection) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _as_sqlite_should(engine: Engine) -> None:
    """Write-ahead log, foreign keys, and transactions that begin when we say: the driver's own begin too late."""

    @event.listens_for(engine, "connect")
    def connected(connection: Any, _: Any) -> None:
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in ("journal_mode=WAL", "foreign_keys=ON", "synchronous=NORMAL"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begun(connection: Connection) -> None:
        writes = connection.get_execution_options().get("writes")
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
