"""The sharedVolume way: the operator puts adapters on a volume that the pods mount too.

A version is put together under a temporary name, proven, made durable and renamed to `<root>/<name>/<fingerprint>/`. A
folder of that name is whole, and nothing in it ever changes: an engine may read it again at any time.
"""

from __future__ import annotations

import asyncio
import errno
import os
import stat
import time
from collections.abc import Callable, Collection
from pathlib import Path

from lora_operator.cache import scratch as scratches
from lora_operator.cache.copying import copy_verified, make_durable, set_mode
from lora_operator.cache.paths import is_fingerprint, parse_root, version_path
from lora_operator.cache.scratch import scratch, sweep_scratch
from lora_operator.cache.store_error import StoreError, store_error
from lora_operator.sources.base import FoundAdapter

__all__ = ["StoreError", "VolumeStore", "parse_root"]


class VolumeStore:
    """A store on the volume that is mounted at `root`. Several processes may use one volume at a time."""

    def __init__(self, root: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._root = root
        self._clock = clock
        self._under_way: dict[Path, asyncio.Task[Path]] = {}

    async def start(self) -> int:
        """Check the root and delete what killed processes left behind; returns how much that was. Raises StoreError."""
        return await asyncio.to_thread(self._start)

    async def publish(self, adapter: FoundAdapter, source_folder: Path) -> Path:
        """Bring `adapter` into the store, unless it is there, and return its folder. Raises StoreError.

        Safe to repeat and to run at the same time in several processes; whatever interrupts it leaves either nothing or
        the whole version. Callers in this process who want the same version share one copy of it.
        """
        target = self.path_of(adapter.name, adapter.fingerprint)
        task = self._under_way.get(target)
        if task is None:
            task = asyncio.create_task(asyncio.to_thread(self._publish, adapter, source_folder, target))
            self._under_way[target] = task
            task.add_done_callback(lambda done: self._ended(target, done))
        # the others still want it when one of them is cancelled
        return await asyncio.shield(task)

    def _ended(self, target: Path, done: asyncio.Task[Path]) -> None:
        del self._under_way[target]
        if not done.cancelled():
            done.exception()  # if every caller was cancelled, nobody else asks for it

    async def sweep(
        self, keep: Collection[tuple[str, str]], older_than_seconds: float, now: float
    ) -> tuple[tuple[str, str], ...]:
        """Delete the versions that are not in `keep` and were last published more than `older_than_seconds` ago.

        `keep` holds (name, fingerprint) of all that is wanted or loaded anywhere: an engine dies when it reads again
        what is gone. They are young again after this, for other processes that sweep here.

        Returns what was deleted, sorted. Raises StoreError.
        """
        return await asyncio.to_thread(self._sweep, frozenset(keep), older_than_seconds, now)

    def path_of(self, name: str, fingerprint: str) -> Path:
        """Where that version is, or would be. Raises StoreError for a name or fingerprint that cannot be one."""
        return version_path(self._root, name, fingerprint)

    def holds(self, name: str, fingerprint: str) -> bool:
        """Whether that version is in the store (one stat)."""
        return _is_folder(self.path_of(name, fingerprint))

    def _start(self) -> int:
        if not self._root.is_dir():
            raise StoreError(
                "VolumeMissing",
                f"the adapter volume {self._root} is not a folder: mount the volume there",
                retryable=True,
            )
        return sweep_scratch(self._root, self._clock())

    def _publish(self, adapter: FoundAdapter, source_folder: Path, target: Path) -> Path:
        try:
            if self._is_there(target) and _mark_used(target):
                return target
            if not self._root.is_dir():
                raise StoreError(
                    "VolumeMissing",
                    f"storing {adapter.name}: the adapter volume {self._root} is not a folder: mount the volume there",
                    retryable=True,
                )
            with scratch(self._root) as folder:
                for file in adapter.files:
                    copy_verified(file, source_folder, folder)
                set_mode(folder, 0o755)  # engines run as other users
                self._make_parent(target)
                # all at the end, as waiting for the first brings most of the others along
                for path in (*(folder / file.path for file in adapter.files), folder, self._root):
                    make_durable(path)
                self._rename(folder, target)
        except OSError as error:
            raise store_error(f"storing {adapter.name} at {target}", error) from error
        return target

    def _is_there(self, target: Path) -> bool:
        for path in (target.parent, target):
            if os.path.lexists(path) and not _is_folder(path):
                raise StoreError(
                    "PathOccupied", f"{path} is a file or a link, not a folder of ours: remove it", retryable=False
                )
        return _is_folder(target)

    def _make_parent(self, target: Path) -> None:
        try:
            target.parent.mkdir(mode=0o755)
        except FileExistsError:
            return
        set_mode(target.parent, 0o755)

    def _rename(self, folder: Path, target: Path) -> None:
        while True:
            try:
                folder.rename(target)
            except FileNotFoundError:
                if not folder.exists():
                    raise
                self._make_parent(target)  # a sweep removed the empty folder in between
            except OSError as error:
                if _is_folder(target):
                    return  # another process was faster: the same files
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
                # another process was faster, and a sweep faster still: the place is free again
            else:
                make_durable(target.parent)
                return

    def _sweep(
        self, keep: frozenset[tuple[str, str]], older_than_seconds: float, now: float
    ) -> tuple[tuple[str, str], ...]:
        sweep_scratch(self._root, now)
        removed: list[tuple[str, str]] = []
        try:
            for name in _folders_in(self._root):
                before = len(removed)
                for version in _folders_in(self._root / name):
                    if not is_fingerprint(version):
                        continue
                    if (name, version) in keep:
                        # an operator of other namespaces may share the volume: it has to see that this is in use
                        _mark_used(self._root / name / version)
                    elif self._remove(self._root / name / version, now - older_than_seconds):
                        removed.append((name, version))
                if len(removed) > before:
                    _remove_if_empty(self._root / name)
        except OSError as error:
            raise store_error(f"sweeping {self._root}", error) from error
        return tuple(sorted(removed))

    def _remove(self, path: Path, unused_since: float) -> bool:
        """Rename away first: a version is whole or absent while it goes, too."""
        try:
            if path.stat().st_mtime >= unused_since:
                return False
            with scratch(self._root) as folder:
                away = folder / "removed"
                path.rename(away)
                if away.stat().st_mtime >= unused_since:  # somebody asked for it between the two looks
                    self._rename(away, path)
                    return False
        except FileNotFoundError:
            return False  # another process was faster
        return True


def _folders_in(path: Path) -> list[str]:
    try:
        with os.scandir(path) as entries:
            return sorted(
                entry.name
                for entry in entries
                if entry.is_dir(follow_symlinks=False) and not entry.name.startswith(scratches.FOLDER)
            )
    except FileNotFoundError:
        return []


def _is_folder(path: Path) -> bool:
    try:
        return stat.S_ISDIR(path.lstat().st_mode)
    except FileNotFoundError:
        return False


def _mark_used(target: Path) -> bool:
    """A version that is asked for again is young again, so that no sweep takes it. False if one just did."""
    try:
        os.utime(target)
    except FileNotFoundError:
        return False
    except OSError:
        return True  # what we may not write to, we do not sweep either
    return True


def _remove_if_empty(path: Path) -> None:
    try:
        path.rmdir()
    except OSError:
        return  # not empty, or not ours to remove
