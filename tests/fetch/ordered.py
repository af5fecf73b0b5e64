"""What the tests of fetching share: an adapter, a store that serves it, and the order to fetch it from there."""

from __future__ import annotations

import hashlib
import math
import random
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from e2e.stores.proxy import FaultyStore
from lora_operator.artifacts import CONFIG_FILE, WEIGHTS_FILE, AdapterFile, fingerprint
from lora_operator.fetch.errors import FetchError
from lora_operator.fetch.fetcher import Fetcher
from lora_operator.fetch.limits import Limits
from lora_operator.fetch.links import Renew
from lora_operator.fetch.manifest import Archive, FetchFile, FetchManifest, Link
from tests.artifacts.written_adapter import lora_tensors, safetensors_bytes, write_adapter

WEIGHTS_URL = "/alpaca/weights"
SECRET = "s3cr3t-signature"
CHUNK = 4 << 10
# Small blocks, and no waiting: what takes seconds in production takes none here. But for servers that stall: what is
# short enough to wait for is no stall on a busy machine.
LIMITS = Limits(progress_bytes=CHUNK, block_bytes=1 << 10, backoff_seconds=0.001, backoff_max_seconds=0.01)
STALL_SECONDS = 0.5


def adapter_files(folder: Path, *, rank: int = 64, seed: int = 0) -> dict[str, bytes]:
    """Config and weights; the weights have some eight CHUNKs."""
    numbers = random.Random(seed)
    shapes = lora_tensors(rank=rank)
    # all different, so that a piece in the wrong place is noticed
    data = {
        name: struct.pack(f"<{math.prod(shape)}f", *(numbers.uniform(-1, 1) for _ in range(math.prod(shape))))
        for name, shape in shapes.items()
    }
    write_adapter(folder, weights=safetensors_bytes(shapes, dtype="F32", data=data), r=rank)
    return {name: (folder / name).read_bytes() for name in (CONFIG_FILE, WEIGHTS_FILE)}


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def an_order(files: dict[str, bytes], link: Link, **changes: object) -> FetchManifest:
    """The config inline and the weights by `link`; `changes` are of the weights' FetchFile."""
    config, weights = files[CONFIG_FILE], files[WEIGHTS_FILE]
    found = [AdapterFile(name, len(data), sha256(data)) for name, data in files.items()]
    linked = FetchFile(WEIGHTS_FILE, len(weights), sha256(weights), link=link)
    return FetchManifest(
        "alpaca",
        fingerprint(found),
        (
            FetchFile(CONFIG_FILE, len(config), sha256(config), inline=config),
            replace(linked, **changes),  # type: ignore[arg-type]
        ),
    )


def an_archive_order(files: dict[str, bytes], archive: Archive) -> FetchManifest:
    found = [AdapterFile(name, len(data), sha256(data)) for name, data in files.items()]
    return FetchManifest(
        "alpaca",
        fingerprint(found),
        tuple(FetchFile(name, len(data), sha256(data)) for name, data in files.items()),
        archive,
    )


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def is_whole(folder: Path, files: dict[str, bytes]) -> bool:
    """Exactly these files, byte by byte."""
    return {path.name: path.read_bytes() for path in folder.iterdir()} == files


class Case:
    """A store with one adapter, a folder to fetch it into, and a fetcher."""

    def __init__(self, store: FaultyStore, files: dict[str, bytes], into: Path) -> None:
        self.store = store
        self.files = files
        self.into = into
        self.limits = LIMITS

    @property
    def order(self) -> FetchManifest:
        return an_order(self.files, self.link)

    @property
    def link(self) -> Link:
        return Link(self.store.url(WEIGHTS_URL, sig=SECRET), tag=self.store.tag(WEIGHTS_URL))

    async def fetch(
        self,
        order: FetchManifest | None = None,
        *,
        renew: Renew | None = None,
        report: Callable[[int], None] | None = None,
        **fetcher: object,
    ) -> tuple[AdapterFile, ...]:
        async with Fetcher(**{"limits": self.limits, **fetcher}) as one:  # type: ignore[arg-type]
            return await one.fetch(order or self.order, self.into, renew=renew, report=report)

    async def failure(self, order: FetchManifest | None = None, **arguments: object) -> FetchError:
        with pytest.raises(FetchError) as caught:
            await self.fetch(order, **arguments)  # type: ignore[arg-type]
        return caught.value

    @property
    def whole(self) -> bool:
        return is_whole(self.into, self.files)
