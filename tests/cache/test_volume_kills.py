"""kill -9 in the middle of publishing or sweeping, at every step that touches the disk."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

from lora_operator.cache.limits import Limits
from lora_operator.cache.used import used_bytes
from lora_operator.cache.volume import VolumeStore
from lora_operator.sources import FoundAdapter
from tests.cache.dying import dies_at
from tests.cache.published_adapter import is_whole, left_over, names_in
from tests.cache.stored_versions import add, key_of, stored


def check(root: Path, adapter: FoundAdapter) -> bool:
    """Whether the version is there; whole, if it is. Then everything must still work, and nothing be left over."""
    path = root / "alpaca" / adapter.fingerprint
    there = path.exists()
    if there:
        assert is_whole(path, adapter)

    async def carry_on() -> None:
        store = VolumeStore(root)
        await store.start()
        await store.publish(adapter, Path(adapter.location))

    asyncio.run(carry_on())
    assert is_whole(path, adapter)
    assert left_over(root) == []
    return there


def test_a_killed_publish_leaves_a_whole_version_or_none(tmp_path: Path, adapter: FoundAdapter) -> None:
    seen = []
    for step in range(200):
        root = tmp_path / f"volume-{step}"
        root.mkdir()
        if not dies_at(step, lambda root=root: VolumeStore(root).publish(adapter, Path(adapter.location))):  # type: ignore[misc]
            break
        seen.append(check(root, adapter))
    assert len(seen) > 10
    assert set(seen) == {True, False}
    assert seen == sorted(seen)


def test_a_killed_sweep_leaves_a_whole_version_or_none(tmp_path: Path, adapter: FoundAdapter) -> None:
    seen = []
    for step in range(200):
        root = tmp_path / f"volume-{step}"
        root.mkdir()
        asyncio.run(VolumeStore(root).publish(adapter, Path(adapter.location)))
        if not dies_at(step, lambda root=root: VolumeStore(root).sweep((), 0, 4e9)):  # type: ignore[misc]
            break
        seen.append(check(root, adapter))
    assert set(seen) == {True, False}
    assert seen == sorted(seen, reverse=True)


def test_a_killed_eviction_leaves_whole_versions_and_the_next_one_holds_the_budget(tmp_path: Path) -> None:
    """Killed at every other step of it all: what is in use or pinned stays, the rest is whole or gone."""
    seen = []

    def cache(root: Path) -> VolumeStore:
        limits = Limits(budget_bytes=4000, grace_seconds=0)
        return VolumeStore(root, limits=limits, in_use=lambda: {key_of("used")})

    async def begin(root: Path) -> None:
        for name in ("used", "pinned", "old", "older"):
            await add(cache(root), name)
        await cache(root).pin(*key_of("pinned"))

    async def carry_on(root: Path) -> None:
        store = cache(root)
        await store.start()
        await add(store, "new", 2000)
        entries = await store.entries()
        assert sum(entry.size_bytes for entry in entries) <= 4000
        assert [entry.name for entry in entries if entry.pinned] == ["pinned"]

    (tmp_path / "begin").mkdir()
    asyncio.run(begin(tmp_path / "begin"))
    for step in range(0, 300, 2):
        root = tmp_path / f"volume-{step}"
        shutil.copytree(tmp_path / "begin", root)
        if not dies_at(step, lambda root=root: add(cache(root), "new", 2000)):  # type: ignore[misc]
            break
        left = stored(root)
        assert {"used", "pinned"} <= set(left)
        assert used_bytes(root) in (None, sum(left.values()))
        seen.append("new" in left)
        asyncio.run(carry_on(root))
        assert set(stored(root)) == {"used", "pinned", "new"}
        assert left_over(root) == names_in(root / ".partial") == []
    assert len(seen) > 30
    assert seen == sorted(seen)
