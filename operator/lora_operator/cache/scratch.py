"""Temporary folders inside a store: where versions are put together, and where they go to be deleted.

Each is locked (flock) by the process that uses it for as long as it lives. After a crash, even kill -9, the lock is
free: whoever gets it may delete the folder, and nobody deletes what somebody else is still writing.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

FOLDER = ".tmp"
# Where the volume has no locks, age has to tell what is left over.
WITHOUT_LOCKS_SECONDS = 24 * 3600.0


@contextmanager
def scratch(root: Path) -> Iterator[Path]:
    """A new, empty folder on the same file system as `root`, removed at the end unless it was renamed away."""
    parent = root / FOLDER
    parent.mkdir(mode=0o755, exist_ok=True)
    if not stat.S_ISDIR(parent.lstat().st_mode):
        raise NotADirectoryError(errno.ENOTDIR, f"{parent} is not a folder of ours, remove it")
    while (locked := _new(parent)) is None:
        pass
    folder, descriptor = locked
    try:
        yield folder
    finally:
        # closing unlocks: only what is gone, or failed to go, may be left for others
        shutil.rmtree(folder, ignore_errors=True)
        os.close(descriptor)


def _new(parent: Path) -> tuple[Path, int] | None:
    """A new folder, locked; None where a sweep took it before it was."""
    folder = parent / f"{os.getpid()}-{secrets.token_hex(8)}"
    folder.mkdir(mode=0o755)
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        if _try_lock(descriptor) is not False and folder.exists():
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
        locked = _try_lock(descriptor)
        if locked is None:
            locked = now - os.fstat(descriptor).st_mtime > WITHOUT_LOCKS_SECONDS
        if locked:
            shutil.rmtree(path, ignore_errors=True)
        return bool(locked)
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool | None:
    """True: locked; False: somebody else has it; None: this file system has no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EBADF):
            return None
        raise
    return True
