"""Whoever is killed at any step leaves nothing behind that the next process does not put right.

A step is before each effect: on the store, on the database. The process is killed there by SIGKILL, and
another takes over.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import select

from e2e.stores.postgres import PostgresServer
from lora_library.catalogue import owners, reading
from lora_library.cluster.publisher import MARKER
from lora_library.stores.folder import FolderStore
from lora_library.tables import OBJECTS, RESERVATIONS
from tests.library.dying import ALICE, LIMITS, Process, before

LATER = 100_000.0  # seconds, after which nothing of a process that died is under way any more


class Dying:
    """Does deeds in processes that die."""

    def __init__(self) -> None:
        program = [sys.executable, "-m", "tests.library.dying"]
        self._process = subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __call__(self, folder: Path, address: str, deed: str, step: int) -> tuple[str, int]:
        assert self._process.stdin is not None and self._process.stdout is not None
        print(json.dumps([str(folder), address, deed, step]), file=self._process.stdin, flush=True)
        said, steps = json.loads(self._process.stdout.readline())
        assert said in ("killed", "ended")
        return said, steps

    def close(self) -> None:
        self._process.communicate()


@pytest.fixture(scope="module")
def dying() -> Iterator[Dying]:
    made = Dying()
    yield made
    made.close()


async def is_whole(folder: Path, address: str) -> list[str]:
    """What another process finds, and leaves: nothing without a row, no row without its bytes, quota counted once.
    Returns what is served, as name and number."""
    process = Process(folder, address, clock=lambda: time.time() + LATER)
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


def sqlite(folder: Path) -> str:
    return str(folder / "library.db")


async def killed_at_each_step(
    dying: Dying, tmp_path: Path, deed: str, addresses: Callable[[Path], str], steps: range
) -> list[list[str]]:
    """What is served after each, the last of them of a process that came to its end."""
    seen = []
    for step in steps:
        folder = tmp_path / str(step)
        shutil.copytree(tmp_path / "before", folder)
        address = addresses(folder)
        said, _ = dying(folder, address, deed, step)
        seen.append(await is_whole(folder, address))
        if said == "ended":
            assert step > 4, "there were steps to be killed at"
            return seen
    raise AssertionError("it never came to its end")


def turns_once(seen: list[list[str]], either: list[str], or_: list[str]) -> None:
    """Before some step nothing has happened, from it on all has: never anything between."""
    turned = seen.index(or_)
    assert seen[:turned] == [either] * turned and seen[turned:] == [or_] * (len(seen) - turned)
    assert seen[-1] == or_


@pytest.mark.parametrize(
    ("deed", "either", "or_"),
    [
        ("new_version", ["style 1"], ["style 2"]),
        ("new_version_in_pieces", ["style 1"], ["style 2"]),
        ("new_adapter", ["style 1"], ["other 1", "style 1"]),
        ("renamed", ["style 1"], ["renamed 1"]),
        ("deleted", ["style 1"], []),
        ("purged", ["style 1"], []),
    ],
)
async def test_killed_at_each_step_nothing_is_lost_left_or_counted_twice(
    dying: Dying, tmp_path: Path, deed: str, either: list[str], or_: list[str]
) -> None:
    (tmp_path / "before").mkdir()
    await before(tmp_path / "before", sqlite(tmp_path / "before"))
    stride = 3 if deed == "new_version_in_pieces" else 1  # most of its steps are those of another
    turns_once(await killed_at_each_step(dying, tmp_path, deed, sqlite, range(0, 300, stride)), either, or_)


async def test_killed_with_postgresql_nothing_is_lost_left_or_counted_twice(
    dying: Dying, tmp_path: Path, postgres: PostgresServer
) -> None:
    (tmp_path / "before").mkdir()
    first = postgres.database()
    await before(tmp_path / "before", first)
    seen = await killed_at_each_step(
        dying, tmp_path, "new_version", lambda _: postgres.database(like=first), range(0, 300, 3)
    )
    turns_once(seen, ["style 1"], ["style 2"])
