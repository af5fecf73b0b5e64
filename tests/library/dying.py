"""A library's process that is killed, by SIGKILL, at a step that is chosen beforehand.

Run as a program it imports everything once, and forks for each line on its standard input: `[folder, address of the
database, deed, step]`. It answers `killed`, `ended` or `failed`, and how many steps there were.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from e2e.world.adapters import write_adapter
from lora_library import partials
from lora_library.catalogue import changing
from lora_library.catalogue.changing import Change
from lora_library.cluster.publisher import Publisher
from lora_library.cluster.resources import Template
from lora_library.database import Database
from lora_library.model import Limits, Lora, Principal
from lora_library.partials import UPLOAD, Wish
from lora_library.receiving.checking import BaseModels
from lora_library.stores.folder import FolderStore
from lora_library.sweeper import Sweeper
from lora_library.uploads import Uploads, Wanted

ALICE = Principal("alice")
LIMITS = Limits()


class Mortal:
    """Counts steps, and dies at the one that was chosen. After an effect nothing is otherwise than before the next."""

    def __init__(self, dies_at: int | None) -> None:
        self.dies_at, self.effects = dies_at, 0

    def step(self) -> None:
        self.effects += 1
        if self.dies_at is not None and self.effects > self.dies_at:
            os.kill(os.getpid(), signal.SIGKILL)


class MortalStore:
    """A store; each effect is a step before it."""

    def __init__(self, store: FolderStore, life: Mortal) -> None:
        self._store, self._life = store, life

    def __getattr__(self, name: str) -> Any:
        inner = getattr(self._store, name)
        if name not in ("put_file", "put", "copy", "delete"):
            return inner

        def effect(*arguments: Any) -> Any:
            self._life.step()
            return inner(*arguments)

        return effect


class MortalDatabase(Database):
    """A database; each transaction is a step before it."""

    def __init__(self, address: str, life: Mortal) -> None:
        super().__init__(address)
        self._life = life

    @contextlib.asynccontextmanager
    async def writing(self) -> Any:
        self._life.step()
        async with super().writing() as connection:
            yield connection


class Process:
    """A library's process, as far as it matters here."""

    def __init__(
        self, folder: Path, address: str, dies_at: int | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        self.life = Mortal(dies_at)
        self.database = MortalDatabase(address, self.life)
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


async def before(folder: Path, address: str) -> tuple[Lora, Path]:
    """One adapter with a version, and what could be the next."""
    process = Process(folder, address)
    await process.database.migrate()
    lora = await process.upload(write_adapter(folder / "first", base_model="tiny"))
    await process.database.close()
    return lora, write_adapter(folder / "second", base_model="tiny", seed=1)


async def new_version(process: Process, lora: str, second: Path) -> None:
    await process.upload(second)


async def new_adapter(process: Process, lora: str, second: Path) -> None:
    await process.upload(second, "other")


async def renamed(process: Process, lora: str, second: Path) -> None:
    await changing.change(process.database, ALICE, lora, Change(name="renamed"), time.time())
    await process.uploads.tell("alice")


async def deleted(process: Process, lora: str, second: Path) -> None:
    await changing.remove(process.database, ALICE, lora, LIMITS, time.time())
    await process.uploads.tell("alice")


async def purged(process: Process, lora: str, second: Path) -> None:
    await changing.remove(process.database, ALICE, lora, LIMITS, time.time(), purge=True)
    await process.uploads.tell("alice")
    await process.sweeper.sweep()


async def new_version_in_pieces(process: Process, lora: str, second: Path) -> None:
    sent = []
    for path in (second / "adapter_config.json", second / "adapter_model.safetensors"):
        size = path.stat().st_size
        wish = Wish(UPLOAD, size, "", path.name)
        sent.append(await partials.begin(process.database, "alice", wish, LIMITS, process.clock()))
        (second.parent / "half").write_bytes(path.read_bytes()[: size // 2])
        partials.add_piece(process.store, sent[-1], 0, second.parent / "half")
        (second.parent / "rest").write_bytes(path.read_bytes()[size // 2 :])
        partials.add_piece(process.store, sent[-1], size // 2, second.parent / "rest")
    async with process.uploads.place(ALICE) as (reservation, folder):
        (folder / "adapter").mkdir()
        for received in await process.uploads.assembled(sent, folder, reservation):
            shutil.move(received.path, folder / "adapter" / received.name)
        await process.uploads.keep(ALICE, folder / "adapter", Wanted("style"), reservation, sent)
    await process.sweeper.sweep()


DEEDS = {each.__name__: each for each in (new_version, new_adapter, renamed, deleted, purged, new_version_in_pieces)}


async def _do(folder: Path, address: str, deed: str, dies_at: int) -> int:
    (lora,) = [each.name for each in (folder / "store/index").glob("*/*")]
    process = Process(folder, address, dies_at)
    await DEEDS[deed](process, lora, folder / "second")
    await process.uploads.finish()
    process.life.dies_at = None
    await process.database.close()
    return process.life.effects


def _served(folder: Path, address: str, deed: str, dies_at: int) -> tuple[str, int]:
    child = os.fork()
    if child == 0:
        try:
            (folder / "steps").write_text(str(asyncio.run(_do(folder, address, deed, dies_at))))
            os._exit(0)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL:
        return "killed", dies_at
    return ("ended", int((folder / "steps").read_text())) if status == 0 else ("failed", 0)


if __name__ == "__main__":
    for line in sys.stdin:
        given = json.loads(line)
        print(json.dumps(_served(Path(given[0]), *given[1:])), flush=True)
