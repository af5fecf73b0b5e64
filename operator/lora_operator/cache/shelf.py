"""The versions in a store's folder, and the only code that brings one in or takes one away. Blocking.

A version comes and goes by one rename, so that it is whole or absent at any moment, also to engines that open it.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from threading import Lock

from lora_operator.artifacts import CONFIG_FILE, WEIGHTS_FILE
from lora_operator.cache.copying import make_durable, set_mode
from lora_operator.cache.entry import Entry, Key
from lora_operator.cache.locks import changing
from lora_operator.cache.paths import is_fingerprint, is_name, version_path
from lora_operator.cache.records import Record, Records
from lora_operator.cache.scratch import scratch
from lora_operator.cache.store_error import StoreError
from lora_operator.cache.used import changing_used, note_used


class _UsedMeanwhile(Exception):
    """A version that was to go was asked for."""


class Shelf:
    """What is below `root`. Several processes may work on it: see each method for what needs the root's lock."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.records = Records(root)
        self._turn = Lock()
        self._whole: dict[Key, tuple[str, tuple[tuple[str, int], ...]]] = {}  # folder, its files with their sizes

    def changing(self) -> AbstractContextManager[bool]:
        """The root's lock, see `locks.changing`."""
        return changing(self.root, self._turn)

    def path_of(self, key: Key) -> Path:
        """Raises StoreError for a key that cannot be one."""
        return version_path(self.root, *key)

    def is_there(self, key: Key) -> bool:
        """Raises StoreError (PathOccupied) where something else is in its place; OSError."""
        target = self.path_of(key)
        for path in (target.parent, target):
            if os.path.lexists(path) and not is_folder(path):
                raise StoreError(
                    "PathOccupied", f"{path} is a file or a link, not a folder of ours: remove it", retryable=False
                )
        return is_folder(target)

    def is_whole(self, key: Key) -> bool:
        """Whether it is there with all its files in their sizes (one stat for each). Raises as `is_there`.

        All that an engine has is looked at for each load: what was found whole before is asked for less dearly.
        """
        if (known := self._whole.get(key)) is not None and _still_there(*known):
            return True
        self._whole.pop(key, None)
        if not self.is_there(key) or self.lacks(key, self.files_of(key)):
            return False
        if (record := self.records.read(key)) is not None:
            folder = str(self.path_of(key))
            self._whole[key] = folder, tuple((f"{folder}/{name}", size) for name, size in record.files)
        return True

    def lacks(self, key: Key, files: Mapping[str, int]) -> str:
        """Which of `files` (name and bytes) the version lacks or has in another size; "" if it is whole."""
        return lacking(self.path_of(key), files)

    def versions(self) -> Iterator[Key]:
        """All versions there are, sorted. Raises OSError."""
        for key, _ in self._used_at():
            yield key

    def entries(self) -> list[Entry]:
        """All versions with what is known of them. Under the lock, as it begins records that are missing.

        Raises OSError.
        """
        found = []
        for key, last_used in self._used_at():
            with suppress(FileNotFoundError):  # somebody took it away by hand
                found.append((self.records.read(key) or self._adopt(key, last_used)).entry(key, last_used))
        note_used(self.root, sum(entry.size_bytes for entry in found))
        return found

    def files_of(self, key: Key) -> Mapping[str, int]:
        """What makes it whole: as noted when it came, else the two files that every version has, of any size."""
        record = self.records.read(key)
        if record is not None:
            return dict(record.files)
        target = self.path_of(key)
        return {name: _size(target / name) for name in (CONFIG_FILE, WEIGHTS_FILE)}

    def put(self, key: Key, folder: Path, record: Record) -> None:
        """Bring in what lies whole in `folder`. Waits until it is on the disk. Under the lock.

        Raises OSError.
        """
        target = self.path_of(key)
        with changing_used(self.root, 0 if is_folder(target) else record.size_bytes):
            self._rename(folder, target, key, record)

    def _rename(self, folder: Path, target: Path, key: Key, record: Record) -> None:
        self._make_parent(target)
        self.records.write(key, record)
        while True:
            try:
                folder.rename(target)
            except FileNotFoundError:
                if not folder.exists():
                    raise
                self._make_parent(target)  # another process, without locks, removed the empty folder in between
            except OSError as error:
                if is_folder(target) and not lacking(target, dict(record.files)):
                    return  # another process was faster: the same files
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
                # damaged from outside: the same files take its place, so that an engine that has it is no worse off
                with scratch(self.root) as away, suppress(FileNotFoundError):
                    target.rename(away / "damaged")
                # another process was faster, and a sweep faster still: the place is free again
            else:
                make_durable(target.parent)
                make_durable(self.root)
                return

    def take_away(self, entry: Entry, *, even_if_used: bool = False) -> bool:
        """Remove a version, unless it was asked for since `entry` was made. Under the lock.

        Renames it away first: it is whole or absent while it goes, too. Raises OSError.
        """
        path = self.path_of(entry.key)
        try:
            with changing_used(self.root, -entry.size_bytes), scratch(self.root) as folder:
                away = folder / "removed"
                path.rename(away)
                if away.stat().st_mtime > entry.last_used and not even_if_used:
                    away.rename(path)
                    raise _UsedMeanwhile
        except (FileNotFoundError, _UsedMeanwhile):
            return False  # somebody asked for it between the two looks, or took it away by hand
        self.records.forget(entry.key)
        self._whole.pop(entry.key, None)
        with suppress(OSError):  # other versions are still there
            path.parent.rmdir()
        return True

    def mark_used(self, key: Key, now: float) -> bool:
        """Make it the youngest, whoever uses it: no lock is needed. False if it is not there (any more)."""
        path = self.path_of(key)
        try:
            os.utime(path, (now, now))
        except FileNotFoundError:
            return False
        except OSError:
            return True  # what we may not write to, we do not remove either
        return True

    def remove_empty(self) -> int:
        """Remove the folders of names that have no version left; returns how many. Under the lock. Raises OSError."""
        removed = 0
        for name in _names_in(self.root):
            with suppress(OSError):
                (self.root / name).rmdir()
                removed += 1
        return removed

    def _used_at(self) -> Iterator[tuple[Key, float]]:
        """Versions with the time of their last use. With thousands of them this is what making room takes."""
        for name in _names_in(self.root):
            try:
                with os.scandir(f"{self.root}/{name}") as entries:
                    versions = sorted(
                        (entry.name, entry.stat(follow_symlinks=False).st_mtime)
                        for entry in entries
                        if is_fingerprint(entry.name) and entry.is_dir(follow_symlinks=False)
                    )
            except FileNotFoundError:
                continue
            for version, last_used in versions:
                yield (name, version), last_used

    def _adopt(self, key: Key, added_at: float) -> Record:
        """A record for a version that somebody else put there: what is there is what belongs there."""
        with os.scandir(self.path_of(key)) as files:
            sizes = [(file.name, file.stat(follow_symlinks=False).st_size) for file in files]
        record = Record(tuple(sorted(sizes)), added_at)
        with suppress(OSError):
            self.records.write(key, record)
        return record

    def _make_parent(self, target: Path) -> None:
        try:
            target.parent.mkdir(mode=0o755)
        except FileExistsError:
            return
        set_mode(target.parent, 0o755)


def lacking(folder: Path, files: Mapping[str, int]) -> str:
    """Which of `files` (name and bytes) is not in `folder` as a regular file of that size; "" if all are."""
    for name, size in files.items():
        try:
            status = (folder / name).lstat()
        except (FileNotFoundError, NotADirectoryError):
            return name
        if not stat.S_ISREG(status.st_mode) or status.st_size != size:
            return name
    return ""


def _still_there(folder: str, files: Iterable[tuple[str, int]]) -> bool:
    """What `lacking` and `is_folder` say, for thousands at a time."""
    try:
        if not stat.S_ISDIR(os.lstat(folder).st_mode):
            return False
        for path, size in files:
            status = os.lstat(path)
            if status.st_size != size or not stat.S_ISREG(status.st_mode):
                return False
    except OSError:
        return False  # whoever looks thoroughly will say what it is
    return True


def seal(folder: Path, files: Iterable[str]) -> None:
    """Make what was fetched readable by all, writable by nobody, and durable. Raises OSError."""
    for name in files:
        set_mode(folder / name, 0o444)
    set_mode(folder, 0o755)  # engines run as other users
    # all at the end, as waiting for the first brings most of the others along
    for path in (*(folder / name for name in files), folder):
        make_durable(path)


def is_folder(path: Path) -> bool:
    """Whether it is a folder and not a link to one."""
    try:
        return stat.S_ISDIR(path.lstat().st_mode)
    except FileNotFoundError:
        return False


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError:
        return -1


def _names_in(root: Path) -> list[str]:
    """The folders that have an adapter's name; the others are not ours."""
    with os.scandir(root) as entries:
        return sorted(entry.name for entry in entries if is_name(entry.name) and entry.is_dir(follow_symlinks=False))
