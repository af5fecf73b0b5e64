"""Locks between processes (flock): free again at once when their holder dies, however it dies."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Lock

from lora_operator.cache.store_error import StoreError

FILE = ".lock"
DEADLINE_SECONDS = 60.0
LONGEST_PAUSE_SECONDS = 0.01  # it is held for milliseconds at a time


def try_lock(descriptor: int) -> bool | None:
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


@contextmanager
def changing(root: Path, turn: Lock) -> Iterator[bool]:
    """Only one at a time decides what leaves or enters the store at `root`. For blocking code, and short.

    `turn` is what the threads of this process wait for, one after the other: a lock of files can only be polled.
    Where the file system has no locks, everybody gets it at once, with False: removing is then protected by the age of
    what was asked for alone. Raises StoreError (Locked) if somebody holds it for a minute; OSError.
    """
    end = time.monotonic() + DEADLINE_SECONDS
    if not turn.acquire(timeout=DEADLINE_SECONDS):
        raise _locked(root)
    try:
        with _file_lock(root, end) as locked:
            yield locked
    finally:
        turn.release()


@contextmanager
def _file_lock(root: Path, end: float) -> Iterator[bool]:
    flags = os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(root / FILE, flags, 0o644)
    try:
        pause = 0.001
        while (locked := try_lock(descriptor)) is False:
            if time.monotonic() > end:
                raise _locked(root)
            time.sleep(pause)
            pause = min(pause * 1.5, LONGEST_PAUSE_SECONDS)
        yield bool(locked)
    finally:
        os.close(descriptor)


def _locked(root: Path) -> StoreError:
    return StoreError(
        "Locked",
        f"another process has held the lock of {root} for {DEADLINE_SECONDS:g} s: look for one that hangs",
        retryable=True,
    )
