"""Small versions to put into a cache without a source: each with its own content, which tells whether it is whole."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from pathlib import Path

from lora_operator.cache.entry import Key
from lora_operator.cache.volume import VolumeStore
from tests.cache.published_adapter import CONFIG, WEIGHTS

CONFIG_BYTES = 10


class Clock:
    """Unix time that only moves when a test says so."""

    def __init__(self, now: float = 1_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def key_of(name: str) -> Key:
    return name, hashlib.sha256(name.encode()).hexdigest()[:16]


def files_of(size_bytes: int) -> dict[str, int]:
    return {CONFIG: CONFIG_BYTES, WEIGHTS: size_bytes - CONFIG_BYTES}


def content(name: str, size_bytes: int) -> bytes:
    return (name.encode() * size_bytes)[:size_bytes]


def filler(name: str, size_bytes: int, calls: list[str] | None = None) -> Callable[[Path], Awaitable[None]]:
    """Writes the files of a version, those that an earlier attempt left included."""

    async def fill(folder: Path) -> None:
        if calls is not None:
            calls.append(name)
        for file, size in files_of(size_bytes).items():
            (folder / file).unlink(missing_ok=True)
            (folder / file).write_bytes(content(name, size))

    return fill


async def add(store: VolumeStore, name: str, size_bytes: int = 1000, *, prefetch: bool = False) -> Path:
    return await store.add(*key_of(name), files_of(size_bytes), filler(name, size_bytes), prefetch=prefetch)


def add_now(store: VolumeStore, name: str, size_bytes: int = 1000) -> None:
    asyncio.run(add(store, name, size_bytes))


def stored(root: Path) -> dict[str, int]:
    """Sizes in bytes by name of all that is there; fails if any of it is not whole."""
    found = {}
    for folder in root.glob("[!.]*/*"):
        name = folder.parent.name
        assert key_of(name) == (name, folder.name)
        config, weights = (folder / CONFIG).read_bytes(), (folder / WEIGHTS).read_bytes()
        size = len(config) + len(weights)
        assert (config, weights) == tuple(content(name, part) for part in files_of(size).values())
        found[name] = size
    return found
