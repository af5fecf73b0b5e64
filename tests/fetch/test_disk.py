"""Disks that are full, read-only, closed or broken: a reason, and nothing lost once they are well again."""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from lora_operator.artifacts import WEIGHTS_FILE
from tests.fetch.ordered import LIMITS, Case


@pytest.fixture
def tiny_disk(case: Case) -> Iterator[Path]:
    """The case's folder is on a file system of 64 KiB, where this process may mount one."""
    disk = case.into
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("cannot mount a tmpfs here")
    try:
        case.into = disk / "folder"
        case.into.mkdir()
        yield disk
    finally:
        # at once, whoever still has a file open there: a mount that stays keeps pytest from removing its folders
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


async def test_a_disk_that_runs_full_is_reported_and_the_fetch_taken_up_later(case: Case, tiny_disk: Path) -> None:
    (tiny_disk / "ballast").write_bytes(bytes(40 << 10))
    case.limits = replace(LIMITS, checks_free_space=False)
    error = await case.failure()
    assert (error.reason, error.retryable) == ("DiskFull", True)
    assert case.store.sent_bytes > 0
    (tiny_disk / "ballast").unlink()
    case.store.sent_bytes = 0
    await case.fetch()
    assert case.whole
    assert case.store.sent_bytes < len(case.files[WEIGHTS_FILE])


async def test_a_disk_that_is_too_small_is_noticed_before_anything_is_fetched(case: Case, tiny_disk: Path) -> None:
    (tiny_disk / "ballast").write_bytes(bytes(40 << 10))
    error = await case.failure()
    assert (error.reason, error.retryable) == ("DiskFull", True)
    assert case.store.seen == []


@pytest.mark.parametrize(
    ("code", "reason", "retryable"),
    [
        (errno.ENOSPC, "DiskFull", True),
        (errno.EDQUOT, "DiskFull", True),
        (errno.EROFS, "ReadOnly", False),
        (errno.EIO, "IoError", True),
    ],
)
async def test_a_failing_disk_has_a_reason(
    case: Case, monkeypatch: pytest.MonkeyPatch, code: int, reason: str, retryable: bool
) -> None:
    def fails(*arguments: object) -> int:
        raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", fails)
        error = await case.failure()
    assert (error.reason, error.retryable) == (reason, retryable)
    assert "alpaca" in error.message
    await case.fetch()
    assert case.whole


async def test_says_that_it_may_not_write(case: Case) -> None:
    case.into.chmod(0o555)
    before = os.geteuid()
    if before == 0:
        for folder in (case.into, *case.into.parents):
            if folder.stat().st_uid == 0 and "pytest" in str(folder):
                folder.chmod(0o755)  # so that somebody else gets there
        os.seteuid(65534)  # root may write everywhere
    try:
        error = await case.failure()
    finally:
        os.seteuid(before)
    assert (error.reason, error.retryable) == ("PermissionDenied", False)


async def test_says_that_the_folder_is_gone(case: Case) -> None:
    case.into.rmdir()
    assert (await case.failure()).reason == "IoError"
