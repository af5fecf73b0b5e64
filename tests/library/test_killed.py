"""Whoever is killed at any step leaves nothing behind that the next process does not put right.

A kill is played by an effect (of the store, of the database) that never comes back: from then on every effect fails, as
for a process that is not there any more. Then another process takes over.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from e2e.world.adapters import write_adapter
from lora_library.catalogue import changing, owners, reading
from lora_library.catalogue.changing import Change
from lora_library.cluster.publisher import MARKER, Publisher
from lora_library.cluster.resources import Template
from lora_library.database import Database
from lora_library.model import Limits, Lora, Principal
from lora_library.receiving.checking import BaseModels
from lora_library.stores.folder import FolderStore
from lora_library.sweeper import Sweeper
from lora_library.tables import OBJECTS, RESERVATIONS
from lora_library.uploads import Uploads, Wanted

ALICE = Principal("alice")
LIMITS = Limits()
LATER = 100_000.0  # seconds, after which nothing of a process that died is under way any more


class Killed(BaseException):
    """The process is not there any more."""


class Mortal:
    """Counts effects, and dies at the one that was chosen."""

    def __init__(self, dies_at: int | None) -> None:
        self.dies_at, self.effects = dies_at, 0

    def step(self) -> None:
        self.effects += 1
        if self.dies_at is not None and self.effects > self.dies_at:
            raise Killed


class MortalStore:
    """A store; each effect is a step before and another after it."""

    def __init__(self, store: FolderStore, life: Mortal) -> None:
        self._store, self._life = store, life

    def __getattr__(self, name: str) -> Any:
        inner = getattr(self._store, name)
        if name not in ("put_file", "put", "copy", "delete"):
            return inner

        def effect(*arguments: Any) -> Any:
            self._life.step()
            done = inner(*arguments)
            self._life.step()
            return done

        return effect


class MortalDatabase(Database):
    """A database; each transaction is a step before, and another after its commit."""

    def __init__(self, address: str, life: Mortal) -> None:
        super().__init__(address)
        self._life = life

    @contextlib.asynccontextmanager
    async def writing(self) -> Any:
        self._life.step()
        async with super().writing() as connection:
            yield connection
        self._life.step()


class Process:
    """A library's process, as far as it matters here."""

    def __init__(self, folder: Path, dies_at: int | None = None, clock: Callable[[], float] = time.time) -> None:
        self.life = Mortal(dies_at)
        self.database = MortalDatabase(str(folder / "library.db"), self.life)
        self.store: Any = MortalStore(FolderStore(folder / "store"), self.life)
        self.clock = clock
        publisher = Publisher(self.database, self.store, None, Template("default"), clock)
        self.uploads = Uploads(
            self.database, self.store, publisher, LIMITS, BaseModels({}), folder / "work", clock=clock,
            publish_seconds=60.0,
        )  # fmt: skip
        self.sweeper = Sweeper(
            self.database, self.store, publisher, LIMITS, period_seconds=1, audit_seconds=1e9, grace_seconds=0,
            clock=clock,
        )  # fmt: skip

    async def upload(self, adapter: Path, name: str = "style") -> Lora:
        self.uploads.empty_work()
        async with self.uploads.place(ALICE) as (reservation, folder):
            shutil.copytree(adapter, folder / "adapter")
            return await self.uploads.keep(ALICE, folder / "adapter", Wanted(name), reservation)


async def until_killed(process: Process, deed: Callable[[Process], Any]) -> bool:
    """Whether it came to its end."""
    try:
        await deed(process)
        await process.uploads.finish()
    except Killed:
        return False
    finally:
        process.life.dies_at = None
        await process.database.close()
    return True


async def is_whole(folder: Path) -> list[str]:
    """What another process finds, and leaves: nothing without a row, no row without its bytes, quota counted once.
    Returns what is served, as name and number."""
    process = Process(folder, clock=lambda: time.time() + LATER)
    await process.sweeper.sweep()
    store = FolderStore(folder / "store")
    keys = {each.key: each.size_bytes for each in store.keys("")}
    async with process.database.reading() as connection:
        rows = {row.id: row for row in await connection.execute(select(OBJECTS))}
        assert list(await connection.execute(select(RESERVATIONS))) == []
    assert {key.split("/")[2] for key in keys if key.startswith("objects/")} == set(rows)
    for row in rows.values():
        for file in row.files:
            (size,) = [size for key, size in keys.items() if key.endswith(f"/{row.id}/{file['path']}")]
            assert size == file["size_bytes"]
    usage = await owners.quota(process.database, "alice", LIMITS, time.time() + LATER)
    assert (usage.used_bytes, usage.reserved_bytes) == (sum(row.size_bytes for row in rows.values()), 0)
    found, _ = await reading.find(process.database, ALICE, reading.Listing())
    published = {key.rpartition("/")[0] for key in keys if key.startswith("published/")}
    assert len(published) == len(found)
    for lora in found:
        versions = {each.number: each.object_id for each in await reading.versions(process.database, lora.id)}
        (place,) = [each for each in published if each.endswith(f"/{lora.name}")]
        assert {key for key in keys if key.startswith(f"{place}/")} == {
            f"{place}/adapter_config.json", f"{place}/adapter_model.safetensors",
            f"{place}/{MARKER}{versions[lora.current]}",
        }  # fmt: skip
        weights = store.get(f"{place}/adapter_model.safetensors")
        (stored,) = [key for key in keys if key.endswith(f"{versions[lora.current]}/adapter_model.safetensors")]
        assert weights == store.get(stored)
    await process.database.close()
    return sorted(f"{lora.name} {lora.current}" for lora in found)


async def before(folder: Path) -> tuple[Lora, Path]:
    """One adapter with a version, and what could be the next."""
    process = Process(folder)
    await process.database.migrate()
    lora = await process.upload(write_adapter(folder / "first", base_model="tiny"))
    await process.database.close()
    return lora, write_adapter(folder / "second", base_model="tiny", seed=1)


async def new_version(process: Process, lora: Lora, second: Path) -> None:
    await process.upload(second)


async def new_adapter(process: Process, lora: Lora, second: Path) -> None:
    await process.upload(second, "other")


async def renamed(process: Process, lora: Lora, second: Path) -> None:
    await changing.change(process.database, ALICE, lora.id, Change(name="renamed"), time.time())
    await process.uploads.tell("alice")


async def deleted(process: Process, lora: Lora, second: Path) -> None:
    await changing.remove(process.database, ALICE, lora.id, LIMITS, time.time())
    await process.uploads.tell("alice")


async def purged(process: Process, lora: Lora, second: Path) -> None:
    await changing.remove(process.database, ALICE, lora.id, LIMITS, time.time(), purge=True)
    await process.uploads.tell("alice")
    await process.sweeper.sweep()


@pytest.mark.parametrize(
    ("deed", "either", "or_"),
    [
        (new_version, ["style 1"], ["style 2"]),
        (new_adapter, ["style 1"], ["other 1", "style 1"]),
        (renamed, ["style 1"], ["renamed 1"]),
        (deleted, ["style 1"], []),
        (purged, ["style 1"], []),
    ],
)
async def test_killed_at_each_step_nothing_is_lost_left_or_counted_twice(
    tmp_path: Path, deed: Callable[[Process, Lora, Path], Any], either: list[str], or_: list[str]
) -> None:
    seen = []
    (tmp_path / "before").mkdir()
    lora, second = await before(tmp_path / "before")
    for step in range(200):
        folder = tmp_path / str(step)
        shutil.copytree(tmp_path / "before", folder)
        process = Process(folder, dies_at=step)
        ended = await until_killed(process, lambda living: deed(living, lora, second))
        seen.append(await is_whole(folder))
        if ended and process.life.effects <= step:
            break
    else:
        raise AssertionError("it never came to its end")
    assert step > 8, "there were steps to be killed at"
    assert seen[-1] == or_
    # before some step nothing has happened, from it on all has: never anything between
    turned = seen.index(or_)
    assert seen[:turned] == [either] * turned and seen[turned:] == [or_] * (len(seen) - turned)
