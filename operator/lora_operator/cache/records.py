"""What the cache notes of each version beside the version itself: `<root>/.index/<name>@<fingerprint>`.

A record is a line of JSON that never changes, followed by a journal of one byte per event: appending one byte cannot
be cut in half by a crash nor mixed up with that of another process. A lost or damaged record costs a version its
history and nothing else: the folder itself says what is there.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from lora_operator.cache.copying import write_whole
from lora_operator.cache.entry import Entry, Key
from lora_operator.cache.paths import is_fingerprint
from lora_operator.cache.scratch import parent_of_ours

FOLDER = ".index"
_MOST_BYTES = 16 << 20


class Event(bytes, Enum):
    """One byte in the journal."""

    HIT = b"h"
    PIN = b"p"
    UNPIN = b"u"


@dataclass(frozen=True, slots=True)
class Record:
    """`files` are the names and sizes in bytes that make the version whole."""

    files: tuple[tuple[str, int], ...]
    added_at: float
    load_seconds: float = 0.0
    prefetched: bool = False
    hits: int = 0
    pinned: bool = False

    @property
    def size_bytes(self) -> int:
        return sum(size for _, size in self.files)

    def entry(self, key: Key, last_used: float) -> Entry:
        return Entry(
            *key, self.size_bytes, self.added_at, last_used, self.hits, self.load_seconds, self.prefetched, self.pinned
        )


class Records:
    """The records below one root. What was read once is read again only when it has changed."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._folder = root / FOLDER
        self._known: dict[Key, tuple[tuple[int, int, int], Record]] = {}

    def read(self, key: Key) -> Record | None:
        """None where there is none, or a damaged one. Raises OSError."""
        try:
            status = os.stat(f"{self._folder}/{key[0]}@{key[1]}")  # noqa: PTH116 - for thousands at a time
            mark = (status.st_ino, status.st_size, status.st_mtime_ns)
            known = self._known.get(key)
            if known is not None and known[0] == mark:
                return known[1]
            if status.st_size > _MOST_BYTES:
                return None
            record = _parse(self._path(key).read_bytes())
        except FileNotFoundError:
            record = None
        if record is None:
            self._known.pop(key, None)
            return None
        self._known[key] = (mark, record)
        return record

    def write(self, key: Key, record: Record) -> None:
        """Begin the record of a new version. Raises OSError."""
        parent_of_ours(self._root, FOLDER)
        head = {
            "files": dict(record.files),
            "addedAt": record.added_at,
            "loadSeconds": record.load_seconds,
            "prefetched": record.prefetched,
        }
        write_whole(self._path(key), json.dumps(head).encode() + b"\n" + (Event.PIN if record.pinned else b""))

    def note(self, key: Key, event: Event) -> bool:
        """Append an event; False where there is no record to append to. Raises OSError."""
        flags = os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            descriptor = os.open(self._path(key), flags)
        except FileNotFoundError:
            return False
        try:
            os.write(descriptor, event.value)
        finally:
            os.close(descriptor)
        return True

    def forget(self, key: Key) -> None:
        """Raises OSError."""
        self._known.pop(key, None)
        with suppress(FileNotFoundError):
            self._path(key).unlink()

    def keys(self) -> list[Key]:
        """Of which versions there are records. Raises OSError."""
        try:
            with os.scandir(self._folder) as entries:
                parts = [entry.name.rpartition("@") for entry in entries]
        except FileNotFoundError:
            return []
        return sorted((name, fingerprint) for name, _, fingerprint in parts if name and is_fingerprint(fingerprint))

    def _path(self, key: Key) -> Path:
        return self._folder / f"{key[0]}@{key[1]}"


def _parse(data: bytes) -> Record | None:
    line, newline, journal = data.partition(b"\n")
    if not newline:
        return None
    try:
        head = json.loads(line)
        files = tuple(sorted((str(path), int(size)) for path, size in head["files"].items()))
        times = float(head["addedAt"]), float(head["loadSeconds"])
        prefetched = bool(head["prefetched"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    pinned = journal.rfind(Event.PIN) > journal.rfind(Event.UNPIN)
    return Record(files, *times, prefetched, journal.count(Event.HIT), pinned)
