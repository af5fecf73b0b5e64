"""What goes wrong with sources and volumes: a typed reason, and nothing half-done left behind."""

from __future__ import annotations

import errno
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from lora_operator.cache import copying
from lora_operator.cache.volume import StoreError, VolumeStore
from lora_operator.sources import FoundAdapter
from tests.cache.published_adapter import (
    WEIGHTS,
    an_adapter,
    failure,
    is_whole,
    left_over,
    source_of,
    versions,
)


@pytest.mark.parametrize("change", ["content", "longer", "shorter", "gone", "link"])
async def test_never_publishes_files_that_changed_since_they_were_inspected(
    root: Path, adapter: FoundAdapter, change: str
) -> None:
    weights = source_of(adapter) / WEIGHTS
    whole = weights.read_bytes()
    if change == "content":
        weights.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    elif change == "longer":
        weights.write_bytes(whole + b"\0")
    elif change == "shorter":
        weights.write_bytes(whole[:-1])
    else:
        weights.unlink()
        if change == "link":
            weights.symlink_to("/etc/passwd")
    error = await failure(VolumeStore(root), adapter)
    assert (error.reason, error.retryable) == ("SourceChanged", True)
    assert WEIGHTS in str(error)
    assert versions(root) == []
    assert left_over(root) == []


async def test_copies_large_files_whole(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copying, "CHUNK_BYTES", 512)
    adapter = an_adapter(tmp_path / "source")
    path = await VolumeStore(root).publish(adapter, source_of(adapter))
    assert is_whole(path, adapter)


@pytest.mark.parametrize("code", [errno.EXDEV, errno.EOPNOTSUPP])
async def test_copies_large_files_where_the_kernel_cannot(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def cannot(source: int, target: int, count: int) -> int:
        os.write(target, b"some of it was written")
        raise OSError(code, "no")

    monkeypatch.setattr(copying, "CHUNK_BYTES", 512)
    monkeypatch.setattr(os, "copy_file_range", cannot)
    adapter = an_adapter(tmp_path / "source")
    path = await VolumeStore(root).publish(adapter, source_of(adapter))
    assert is_whole(path, adapter)


async def test_copies_large_files_where_the_kernel_copies_nothing(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copying, "CHUNK_BYTES", 512)
    monkeypatch.setattr(os, "copy_file_range", lambda source, target, count: 0)
    adapter = an_adapter(tmp_path / "source")
    path = await VolumeStore(root).publish(adapter, source_of(adapter))
    assert is_whole(path, adapter)


@pytest.mark.parametrize(
    ("code", "reason", "retryable"),
    [
        (errno.ENOSPC, "DiskFull", True),
        (errno.EDQUOT, "DiskFull", True),
        (errno.EROFS, "ReadOnly", False),
        (errno.EACCES, "PermissionDenied", False),
        (errno.EIO, "IoError", True),
    ],
)
@pytest.mark.parametrize("step", ["write", "fsync", "mkdir", "rename"])
async def test_failures_of_the_volume_have_a_reason_and_leave_nothing(
    root: Path,
    adapter: FoundAdapter,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    code: int,
    reason: str,
    retryable: bool,
) -> None:
    def fails(*arguments: object, **options: object) -> int:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patched:
        patched.setattr(os, step, fails)
        error = await failure(VolumeStore(root), adapter)
    assert (error.reason, error.retryable) == (reason, retryable)
    assert "alpaca" in str(error) or str(root) in str(error)
    assert versions(root) == []
    assert left_over(root) == []
    await VolumeStore(root).publish(adapter, source_of(adapter))


@pytest.fixture
def tiny_volume() -> Iterator[Path]:
    """A volume of 64 KiB, where this process may mount one."""
    with tempfile.TemporaryDirectory() as name:
        mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", name]
        if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
            pytest.skip("cannot mount a tmpfs here")
        yield Path(name)
        subprocess.run(["umount", name], check=True)


async def test_a_disk_that_is_really_full_is_reported_and_recovers(tiny_volume: Path, adapter: FoundAdapter) -> None:
    (tiny_volume / "ballast").write_bytes(bytes(60 << 10))
    error = await failure(VolumeStore(tiny_volume), adapter)
    assert (error.reason, error.retryable) == ("DiskFull", True)
    assert left_over(tiny_volume) == []
    (tiny_volume / "ballast").unlink()
    await VolumeStore(tiny_volume).publish(adapter, source_of(adapter))


@pytest.fixture
def closed_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o555)
        yield Path(name)


async def test_a_volume_that_is_not_mounted_is_not_made_up(tmp_path: Path, adapter: FoundAdapter) -> None:
    store = VolumeStore(tmp_path / "nowhere")
    assert (await failure(store, adapter)).reason == "VolumeMissing"
    with pytest.raises(StoreError) as caught:
        await store.start()
    assert caught.value.reason == "VolumeMissing"
    assert not (tmp_path / "nowhere").exists()


async def test_says_that_it_may_not_write(closed_folder: Path, adapter: FoundAdapter) -> None:
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)  # root may write everywhere
    try:
        error = await failure(VolumeStore(closed_folder), adapter)
    finally:
        os.seteuid(before)
    assert (error.reason, error.retryable) == ("PermissionDenied", False)
