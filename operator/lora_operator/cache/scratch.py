"""Temporary folders inside a store: where versions go to be deleted.

Each is locked (flock) by the process that uses it for as long as it lives. After a crash, even kill -9, the lock is
free: whoever gets it may delete the folder, and nobody deletes what somebody else is still writing.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lora_operator.cache.locks import try_lock

FOLDER = ".tmp"
# Where the volume has no locks, age has to tell what is left over.
WITHOUT_LOCKS_SECONDS = 24 * 3600.0


@contextmanager
def scratch(root: Path) -> Iterator[Path]:
    """A new, empty folder on the same file system as `root`, removed at the end unless it was renamed away."""
    parent = parent_of_ours(root, FOLDER)
    while (locked := _new(parent)) is None:
        pass
    folder, descriptor = locked
    try:
        yield folder
    finally:
        # closing unlocks: only what is gone, or failed to go, may be left for others
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def parent_of_ours(root: Path, name: str) -> Path:
    """A folder of the store's own in `root`, made if need be. Raises OSError, also for a link that somebody planted."""
    parent = root / name
    parent.mkdir(mode=0o755, exist_ok=True)
    if not stat.S_ISDIR(parent.lstat().st_mode):
        raise NotADirectoryError(errno.ENOTDIR, f"{parent} is not a folder of ours, remove it")
    return parent


def _new(parent: Path) -> tuple[Path, int] | None:
    """A new folder, locked; None where a sweep took it before it was."""
    folder = parent / f"{os.getpid()}-{secrets.token_hex(8)}"
    folder.mkdir(mode=0o755)
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        if try_lock(descriptor) is not False and folder.exists():
            return folder, descriptor
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None


def sweep_scratch(root: Path, now: float) -> int:
    """Delete what dead processes left behind; returns how many folders that were. Never raises for a single one."""
    swept = 0
    try:
        with os.scandir(root / FOLDER) as entries:
            folders = [entry.path for entry in entries]
    except OSError:
        return 0
    for path in folders:
        if _delete_if_abandoned(path, now):
            swept += 1
    return swept


def _delete_if_abandoned(path: str, now: float) -> bool:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return False
    try:
        locked = try_lock(descriptor)
        if locked is None:
            locked = now - os.fstat(descriptor).st_mtime > WITHOUT_LOCKS_SECONDS
        if locked:
            shutil.rmtree(path, ignore_errors=True)
        return bool(locked)
    finally:
        os.close(descriptor)
