"""Where versions are being fetched: `<root>/.partial/<name>@<fingerprint>/`, one at a time whoever fetches it.

The folder is locked while somebody fills it. If they die, even by kill -9, what they had stays for some hours, and the
next one who wants the same version goes on with it.
"""

from __future__ import annotations

import os
import secrets
import shutil
import stat
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from lora_operator.cache.entry import Key
from lora_operator.cache.locks import try_lock
from lora_operator.cache.scratch import WITHOUT_LOCKS_SECONDS, parent_of_ours

FOLDER = ".partial"
ABANDONED_SECONDS = 6 * 3600.0
_FILES, _RESERVED = "files", "reserved"


@dataclass(frozen=True, slots=True)
class Partial:
    """A claim on one version: nobody else fills `folder` until `release`."""

    key: Key
    place: Path
    descriptor: int

    @property
    def folder(self) -> Path:
        """Where the files go, with what an earlier attempt left."""
        return self.place / _FILES

    def present_bytes(self) -> int:
        """What an earlier attempt, or this one so far, has brought."""
        return _bytes_in(self.folder)

    def reserve(self, size_bytes: int) -> None:
        """Tell other processes how much will be needed here. Raises OSError."""
        (self.place / _RESERVED).write_text(str(size_bytes))

    def release(self, *, keep: bool) -> None:
        """Let somebody else go on with what is in the folder, or begin anew."""
        if keep:
            with suppress(OSError):
                os.utime(self.place)
        else:
            shutil.rmtree(self.place, ignore_errors=True)
        os.close(self.descriptor)


@dataclass(frozen=True, slots=True)
class Taken:
    """Room that a version takes before it is whole. `alive`: somebody is filling it."""

    place: Path
    size_bytes: int
    alive: bool
    touched_at: float

    @property
    def key(self) -> Key:
        name, _, fingerprint = self.place.name.partition("@")
        return name, fingerprint.partition("@")[0]


def claim(root: Path, key: Key) -> Partial | None:
    """The right to fill this version; None while somebody else has it. Raises OSError."""
    parent = parent_of_ours(root, FOLDER)
    place = parent / f"{key[0]}@{key[1]}"
    while True:
        with suppress(FileExistsError):
            place.mkdir(mode=0o755)
        try:
            descriptor = _open(place)
        except FileNotFoundError:
            continue  # who had it just finished
        try:
            locked = try_lock(descriptor)
            if locked is None:
                # without locks nobody can tell who else is at it: each has a place of its own
                os.close(descriptor)
                with suppress(OSError):
                    place.rmdir()
                place = parent / f"{place.name}@{secrets.token_hex(8)}"
                place.mkdir(mode=0o755)
                descriptor = _open(place)
            elif not locked:
                os.close(descriptor)
                return None
            elif not _is_still(place, descriptor):
                os.close(descriptor)
                continue
            os.utime(place)
            (place / _FILES).mkdir(mode=0o755, exist_ok=True)
        except BaseException:
            with suppress(OSError):
                os.close(descriptor)
            raise
        return Partial(key, place, descriptor)


def taken(root: Path, now: float) -> list[Taken]:
    """All that is under way or left over. Raises OSError."""
    return [found for place in _places(root) if (found := _look(place, now)) is not None]


def drop(left: Taken, now: float) -> bool:
    """Remove what was left over, unless somebody goes on with it. Raises OSError."""
    descriptor = _lock_abandoned(left.place, now)
    if descriptor is None:
        return False
    try:
        shutil.rmtree(left.place, ignore_errors=True)
    finally:
        os.close(descriptor)
    return True


def _look(place: Path, now: float) -> Taken | None:
    try:
        touched = place.stat().st_mtime
        descriptor = _lock_abandoned(place, now)
        if descriptor is not None:
            os.close(descriptor)
            return Taken(place, _bytes_in(place / _FILES), False, touched)
        return Taken(place, max(_reserved(place), _bytes_in(place / _FILES)), True, touched)
    except FileNotFoundError:
        return None


def _lock_abandoned(place: Path, now: float) -> int | None:
    """The descriptor with the lock on it, None where somebody has it or may have it."""
    descriptor = _open(place)
    try:
        locked = try_lock(descriptor)
        if locked is None:
            locked = now - os.fstat(descriptor).st_mtime > WITHOUT_LOCKS_SECONDS
        if locked:
            return descriptor
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None


def _open(place: Path) -> int:
    return os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)


def _is_still(place: Path, descriptor: int) -> bool:
    """Whether what was locked is what the name stands for: who had it before may have removed it."""
    try:
        there, ours = place.lstat(), os.fstat(descriptor)
    except FileNotFoundError:
        return False
    return (there.st_dev, there.st_ino) == (ours.st_dev, ours.st_ino)


def _places(root: Path) -> Iterator[Path]:
    try:
        with os.scandir(root / FOLDER) as entries:
            yield from sorted(Path(entry.path) for entry in entries if entry.is_dir(follow_symlinks=False))
    except FileNotFoundError:
        return


def _reserved(place: Path) -> int:
    try:
        return int((place / _RESERVED).read_text() or "0")
    except (OSError, ValueError):
        return 0


def _bytes_in(folder: Path) -> int:
    """What its files take; they come and go while it is looked at."""
    total = 0
    for at, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                status = (Path(at) / name).lstat()
                total += status.st_size if stat.S_ISREG(status.st_mode) else 0
    return total
