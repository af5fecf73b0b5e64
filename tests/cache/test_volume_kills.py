"""kill -9 in the middle of publishing or sweeping, at every step that touches the disk."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

from lora_operator.cache.volume import VolumeStore
from lora_operator.sources import FoundAdapter
from tests.cache.published_adapter import is_whole, left_over

STEPS = frozenset({"open", "os.mkdir", "os.rename", "os.chmod", "os.remove", "os.rmdir", "os.utime", "os.scandir"})


def dies_at(step: int, work: Callable[[], Awaitable[object]]) -> bool:
    """Do `work` in a child that kills itself at its `step`th touch of the disk; False if it was done before."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -9
    left = [step]

    def count(event: str, _: object) -> None:
        if event in STEPS:
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), 9)

    try:
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        sys.addaudithook(count)
        loop.run_until_complete(work())  # type: ignore[arg-type]
    finally:
        os._exit(0)


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
