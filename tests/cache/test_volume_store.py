"""The store on a shared volume: what it holds, for whom, and for how long."""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import stat
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from lora_operator.artifacts import AdapterFile, fingerprint, inspect
from lora_operator.cache import volume
from lora_operator.cache.entry import Key
from lora_operator.cache.shelf import Shelf
from lora_operator.cache.volume import StoreError, VolumeStore
from lora_operator.sources import FoundAdapter
from tests.cache.published_adapter import (
    CONFIG,
    REPOSITORY,
    WEIGHTS,
    an_adapter,
    is_whole,
    left_over,
    names_in,
    source_of,
    versions,
)


async def test_publishes_the_files_under_name_and_fingerprint(root: Path, adapter: FoundAdapter) -> None:
    store = VolumeStore(root)
    assert not store.holds("alpaca", adapter.fingerprint)
    path = await store.publish(adapter, source_of(adapter))
    assert path == root / "alpaca" / adapter.fingerprint == store.path_of("alpaca", adapter.fingerprint)
    assert store.holds("alpaca", adapter.fingerprint)
    assert is_whole(path, adapter)
    assert names_in(path) == [CONFIG, WEIGHTS]
    assert left_over(root) == []


async def test_what_is_published_can_be_read_by_all_and_written_by_nobody(root: Path, adapter: FoundAdapter) -> None:
    before = os.umask(0o077)
    try:
        path = await VolumeStore(root).publish(adapter, source_of(adapter))
    finally:
        os.umask(before)
    for name in (CONFIG, WEIGHTS):
        assert stat.S_IMODE((path / name).stat().st_mode) == 0o444
    for folder in (path, path.parent):
        assert stat.S_IMODE(folder.stat().st_mode) == 0o755


async def test_publishing_again_changes_nothing_and_needs_no_source(root: Path, adapter: FoundAdapter) -> None:
    store = VolumeStore(root)
    path = await store.publish(adapter, source_of(adapter))
    inode = (path / WEIGHTS).stat().st_ino
    shutil.rmtree(adapter.location)
    assert await store.publish(adapter, source_of(adapter)) == path
    assert (path / WEIGHTS).stat().st_ino == inode


async def test_versions_stand_side_by_side(root: Path, adapter: FoundAdapter, tmp_path: Path) -> None:
    store = VolumeStore(root)
    newer = an_adapter(tmp_path / "source2", seed=1)
    await store.publish(adapter, source_of(adapter))
    await store.publish(newer, source_of(newer))
    assert versions(root) == sorted([("alpaca", adapter.fingerprint), ("alpaca", newer.fingerprint)])


async def test_many_at_once_end_with_one_whole_version(root: Path, adapter: FoundAdapter) -> None:
    stores = [VolumeStore(root) for _ in range(4)]
    paths = await asyncio.gather(*(store.publish(adapter, source_of(adapter)) for store in stores for _ in range(8)))
    assert set(paths) == {root / "alpaca" / adapter.fingerprint}
    assert is_whole(paths[0], adapter)
    assert left_over(root) == []


async def test_callers_of_one_process_share_one_copy(
    root: Path, adapter: FoundAdapter, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied: list[str] = []
    real = volume.copy_verified

    def counted(file: AdapterFile, source: Path, target: Path) -> None:
        copied.append(file.path)
        real(file, source, target)

    monkeypatch.setattr(volume, "copy_verified", counted)
    store = VolumeStore(root)
    publishing = [asyncio.create_task(store.publish(adapter, source_of(adapter))) for _ in range(5)]
    await asyncio.sleep(0)
    publishing[0].cancel()
    done = await asyncio.gather(*publishing, return_exceptions=True)
    assert isinstance(done[0], asyncio.CancelledError)
    assert set(done[1:]) == {root / "alpaca" / adapter.fingerprint}
    assert copied == [CONFIG, WEIGHTS]


async def test_callers_of_one_process_share_a_failure(root: Path, adapter: FoundAdapter) -> None:
    (source_of(adapter) / WEIGHTS).unlink()
    store = VolumeStore(root)
    errors = await asyncio.gather(
        *(store.publish(adapter, source_of(adapter)) for _ in range(3)), return_exceptions=True
    )
    assert [getattr(error, "reason", None) for error in errors] == ["SourceChanged"] * 3
    with pytest.raises(StoreError):
        await store.publish(adapter, source_of(adapter))


async def test_other_processes_may_publish_and_sweep_at_the_same_time(root: Path, adapter: FoundAdapter) -> None:
    program = (
        "import asyncio, sys; from pathlib import Path; from lora_operator.cache.volume import VolumeStore\n"
        "from tests.cache.published_adapter import found_in\n"
        "async def main():\n"
        "    adapter = found_in(Path(sys.argv[1]))\n"
        "    store = VolumeStore(Path(sys.argv[2])); await store.start()\n"
        "    for _ in range(20):\n"
        "        await store.publish(adapter, Path(adapter.location))\n"
        "        await store.sweep((), -1.0, float(sys.argv[3]))\n"
        "asyncio.run(main())"
    )
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            program,
            adapter.location,
            str(root),
            now,
            stderr=asyncio.subprocess.PIPE,
            cwd=REPOSITORY,
        )
        for now in ("4e9", "4e9", "0")  # the last one sweeps nothing
    ]
    said = await asyncio.gather(*(process.communicate() for process in processes))
    assert [(process.returncode, errors) for process, (_, errors) in zip(processes, said, strict=True)] == [
        (0, b"")
    ] * 3
    assert left_over(root) == []
    for name, version in versions(root):
        assert fingerprint(inspect(root / name / version).files) == version


async def test_what_another_process_removes_between_two_looks_is_not_called_damaged(
    root: Path, adapter: FoundAdapter, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = VolumeStore(root)
    path = await store.publish(adapter, source_of(adapter))
    looks = Shelf.lacks

    def removed_meanwhile(shelf: Shelf, key: Key, files: Mapping[str, int]) -> str:
        if key not in gone:
            gone.add(key)
            shutil.rmtree(path)
        return looks(shelf, key, files)

    gone: set[Key] = set()
    monkeypatch.setattr(Shelf, "lacks", removed_meanwhile)
    assert is_whole(await store.publish(adapter, source_of(adapter)), adapter)
    assert gone and caplog.messages == []


async def test_sweeps_what_nobody_needs_and_nothing_else(root: Path, tmp_path: Path) -> None:
    store = VolumeStore(root)
    for number, name in enumerate(("a", "a", "b", "young")):
        found = an_adapter(tmp_path / f"s{number}", name, seed=number)
        path = await store.publish(found, source_of(found))
        if name != "young":
            os.utime(path, (1000 + number, 1000 + number))
    (root / "lost+found").mkdir()
    (root / "notes.txt").write_text("ours")
    (root / "b" / "not-a-fingerprint").mkdir()
    first, second, other = (v for v in versions(root) if v[0] in "ab" and v[1] != "not-a-fingerprint")
    assert await store.sweep({first}, 100, 2000) == tuple(sorted([second, other]))
    assert store.holds(*first)
    assert not store.holds(*second)
    assert [name for name in names_in(root) if name[0] != "."] == ["a", "b", "lost+found", "notes.txt", "young"]
    # what is in use is young again, so that an operator of other namespaces on the same volume leaves it alone
    assert await store.sweep((), 100, 2000) == ()
    os.utime(store.path_of(*first), (1000, 1000))
    assert await store.sweep((), 100, 2000) == (first,)
    assert not (root / "a").exists()
    assert left_over(root) == []


async def test_what_was_asked_for_again_is_young_again(root: Path, adapter: FoundAdapter) -> None:
    store = VolumeStore(root)
    path = await store.publish(adapter, source_of(adapter))
    os.utime(path, (1000, 1000))
    await store.publish(adapter, source_of(adapter))
    assert await store.sweep((), 100, 2000) == ()
    assert store.holds("alpaca", adapter.fingerprint)


async def test_deletes_left_overs_of_the_dead_and_leaves_those_of_the_living(root: Path) -> None:
    (root / ".tmp" / "dead").mkdir(parents=True)
    (root / ".tmp" / "dead" / "file").write_text("half")
    (root / ".tmp" / "living").mkdir()
    living = os.open(root / ".tmp" / "living", os.O_RDONLY)
    fcntl.flock(living, fcntl.LOCK_EX)
    try:
        assert await VolumeStore(root).start() == 1
        assert left_over(root) == ["living"]
    finally:
        os.close(living)
    assert await VolumeStore(root).start() == 1
    assert left_over(root) == []
