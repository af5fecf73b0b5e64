"""Two at one thing: a sweep and a publisher meet between two system calls; and volumes that lack what others have."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from lora_operator.cache import copying, scratch
from lora_operator.cache.volume import VolumeStore
from lora_operator.sources import FoundAdapter
from tests.cache.published_adapter import is_whole, left_over, source_of, versions


def before_rename(monkeypatch: pytest.MonkeyPatch, meanwhile: Callable[[Path, Path], None]) -> None:
    """Let something happen once, just before the next folder is renamed."""
    real = os.rename
    left = [1]

    def renamed(source: Path, target: Path) -> None:
        if left[0]:
            left[0] = 0
            meanwhile(Path(source), Path(target))
        real(source, target)

    monkeypatch.setattr(os, "rename", renamed)


async def test_a_version_that_is_asked_for_while_it_is_swept_stays(
    root: Path, adapter: FoundAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = VolumeStore(root)
    path = await store.publish(adapter, source_of(adapter))
    os.utime(path, (1000, 1000))
    before_rename(monkeypatch, lambda source, target: os.utime(source))
    assert await store.sweep((), 100, 2000) == ()
    assert is_whole(path, adapter)


async def test_a_version_that_is_swept_while_it_is_asked_for_is_published_again(
    root: Path, adapter: FoundAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = VolumeStore(root)
    path = await store.publish(adapter, source_of(adapter))
    real = os.utime

    def swept(target: Path, times: tuple[float, float]) -> None:
        monkeypatch.setattr(os, "utime", real)
        shutil.rmtree(path)
        raise FileNotFoundError(errno.ENOENT, "gone")

    monkeypatch.setattr(os, "utime", swept)
    assert await store.publish(adapter, source_of(adapter)) == path
    assert is_whole(path, adapter)


async def test_two_sweeps_at_one_version_do_not_disturb_each_other(
    root: Path, adapter: FoundAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = VolumeStore(root)
    path = await store.publish(adapter, source_of(adapter))
    os.utime(path, (1000, 1000))
    before_rename(monkeypatch, lambda source, target: shutil.rmtree(source))
    assert await store.sweep((), 100, 2000) == ()
    assert versions(root) == []


async def test_publishes_though_a_sweep_takes_the_empty_folder_of_the_name(
    root: Path, adapter: FoundAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    before_rename(monkeypatch, lambda source, target: target.parent.rmdir())
    path = await VolumeStore(root).publish(adapter, source_of(adapter))
    assert is_whole(path, adapter)


async def test_is_content_when_another_process_was_faster(
    root: Path, adapter: FoundAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other_process(source: Path, target: Path) -> None:
        shutil.copytree(source, target)

    before_rename(monkeypatch, other_process)
    path = await VolumeStore(root).publish(adapter, source_of(adapter))
    assert is_whole(path, adapter)
    assert left_over(root) == []


async def test_publishes_when_a_faster_process_was_swept_at_once(
    root: Path, adapter: FoundAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def came_and_went(source: Path, target: Path) -> None:
        raise OSError(errno.ENOTEMPTY, "not empty when it was renamed, and gone since")

    before_rename(monkeypatch, came_and_went)
    assert is_whole(await VolumeStore(root).publish(adapter, source_of(adapter)), adapter)


async def test_a_scratch_folder_that_is_swept_before_it_is_locked_is_made_anew(
    root: Path, adapter: FoundAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = fcntl.flock
    left = [1]

    def beaten(descriptor: int, how: int) -> None:
        if left[0]:
            left[0] = 0
            raise BlockingIOError(errno.EWOULDBLOCK, "a sweep has it")
        real(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", beaten)
    assert is_whole(await VolumeStore(root).publish(adapter, source_of(adapter)), adapter)


async def test_without_locks_only_age_makes_a_left_over(
    root: Path, adapter: FoundAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(descriptor: int, how: int) -> None:
        raise OSError(errno.ENOLCK, "no locks here")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    (root / ".tmp" / "somebody").mkdir(parents=True)
    os.utime(root / ".tmp" / "somebody", (1000, 1000))
    day = scratch.WITHOUT_LOCKS_SECONDS
    assert await VolumeStore(root, clock=lambda: 1000 + day).start() == 0
    store = VolumeStore(root, clock=lambda: 1000 + day)
    assert is_whole(await store.publish(adapter, source_of(adapter)), adapter)
    assert left_over(root) == ["somebody"]
    assert await VolumeStore(root, clock=lambda: 1001 + day).start() == 1
    assert left_over(root) == []


@pytest.mark.parametrize("code", [errno.EPERM, errno.EOPNOTSUPP])
async def test_publishes_on_a_volume_that_has_no_modes_and_cannot_sync_folders(
    root: Path, adapter: FoundAdapter, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def no_modes(*arguments: object) -> None:
        raise OSError(code, "no modes here")

    real = os.fsync

    def files_only(descriptor: int) -> None:
        if Path(f"/proc/self/fd/{descriptor}").is_dir():
            raise OSError(errno.EINVAL, "files only")
        real(descriptor)

    monkeypatch.setattr(copying.os, "chmod", no_modes)
    monkeypatch.setattr(copying.os, "fsync", files_only)
    assert is_whole(await VolumeStore(root).publish(adapter, source_of(adapter)), adapter)
