"""Hundreds of versions that come at once cost what each of them costs alone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from lora_operator.cache import room
from lora_operator.cache.limits import Limits
from lora_operator.cache.partial import FOLDER, Taken
from lora_operator.cache.protection import InUse
from lora_operator.cache.volume import FILLS_AT_ONCE, VolumeStore
from tests.cache.stored_versions import files_of, filler, key_of, stored

MANY = 150


async def add_many(store: VolumeStore, seen: Callable[[], object]) -> None:
    def one(name: str) -> object:
        async def fill(folder: Path) -> None:
            seen()
            await filler(name, 100)(folder)

        return store.add(*key_of(name), files_of(100), fill)

    await asyncio.gather(*(one(f"a{number}") for number in range(MANY)))  # type: ignore[call-overload]


async def test_few_are_claimed_at_a_time_and_nobody_is_asked_what_is_in_use_while_there_is_room(root: Path) -> None:
    claimed: list[int] = []
    asked: list[None] = []

    def in_use() -> InUse:
        asked.append(None)
        return frozenset()

    store = VolumeStore(root, limits=Limits(budget_bytes=1_000_000), in_use=in_use)
    await add_many(store, lambda: claimed.append(len(list((root / FOLDER).iterdir()))))
    assert len(stored(root)) == MANY
    assert max(claimed) <= FILLS_AT_ONCE
    # the first in an empty store finds no sum of what is there, and counts
    assert len(asked) <= FILLS_AT_ONCE


async def test_without_a_budget_nobody_looks_at_what_else_is_on_its_way(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[None] = []

    def taken(root: Path, now: float) -> list[Taken]:
        looked.append(None)
        return []

    monkeypatch.setattr(room, "taken", taken)
    await add_many(VolumeStore(root), lambda: None)
    assert len(stored(root)) == MANY and not looked
