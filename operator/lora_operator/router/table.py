"""The routing table in memory: the newest lines, and a bounded log of what changed, from which streams go on.

A version counts changes within one process; the epoch tells processes apart, so that a client that comes to another
replica is never given the difference between two things that have nothing to do with each other.
"""

from __future__ import annotations

import secrets
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from lora_operator.router.entries import Entry

Key = tuple[str, str]
LOG_LENGTH = 20_000


@dataclass(frozen=True, slots=True)
class Change:
    """One line of the log: an adapter appeared (no `before`), changed, or is unknown from now on (no `after`)."""

    version: int
    before: Entry | None
    after: Entry | None


class RoutingTable:
    """One writer, any number of readers, all on one event loop."""

    def __init__(self, *, log_length: int = LOG_LENGTH, epoch: str = "") -> None:
        self.epoch = epoch or secrets.token_hex(4)
        self.version = 0
        self.loaded = False  # whether everything that exists has been taken in once
        self.endpoints = 0  # over all entries
        self._entries: dict[Key, Entry] = {}
        self._keys: list[Key] = []  # sorted
        self._names: list[str] = []  # sorted, each once
        self._text: str | None = None  # all of them, one to a line, in lower case
        self._by_name: dict[str, dict[str, Entry]] = {}  # name -> namespace -> entry
        self._log: deque[Change] = deque(maxlen=log_length)
        self._listeners: dict[object, Callable[[], None]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def tag(self) -> str:
        """`epoch-version`: equal tags, equal table."""
        return f"{self.epoch}-{self.version}"

    def get(self, namespace: str, name: str) -> Entry | None:
        return self._entries.get((namespace, name))

    def named(self, name: str) -> Iterable[Entry]:
        """The adapters of this name, of whatever namespace."""
        return self._by_name.get(name, {}).values()

    def after(self, key: Key | None = None) -> Iterator[Entry]:
        """All entries in order, those after `key` if it is given."""
        start = 0 if key is None else bisect_left(self._keys, (key[0], key[1] + "\0"))
        for index in range(start, len(self._keys)):
            yield self._entries[self._keys[index]]

    def neighbours(self, name: str, namespace: str | None, count: int) -> list[str]:
        """The names before and after where this one would stand, `count` each; None is any namespace."""
        if namespace is None:
            place = bisect_left(self._names, name)
            return self._names[max(0, place - count) : place + count]
        place = bisect_left(self._keys, (namespace, name))
        keys = self._keys[max(0, place - count) : place + count]
        return [one for of, one in keys if of == namespace]

    def containing(self, piece: str, count: int) -> list[str]:
        """At most so many names that have this in them, in whatever case; of whatever namespace."""
        if self._text is None:
            self._text = "\n".join(("", *self._names, "")).lower()  # to be searched much faster than name by name
        found: list[str] = []
        line, counted = -1, 0
        place = self._text.find(piece)
        while place >= 0 and len(found) < count:
            line += self._text.count("\n", counted, place)
            found.append(self._names[line])
            counted = self._text.index("\n", place)
            place = self._text.find(piece, counted)
        return found

    def update(self, news: Iterable[tuple[Key, Entry | None]]) -> int:
        """Set or remove entries; those that are as they were are no change. Returns how many changed."""
        changed = 0
        for key, after in news:
            before = self._entries.get(key)
            if before == after:
                continue
            self._put(key, before, after)
            changed += 1
            self.version += 1
            self._log.append(Change(self.version, before, after))
        if changed:
            self._tell()
        return changed

    def _put(self, key: Key, before: Entry | None, after: Entry | None) -> None:
        namespace, name = key
        self.endpoints += len(after.endpoints if after else ()) - len(before.endpoints if before else ())
        if after is None:
            del self._entries[key]
            del self._keys[bisect_left(self._keys, key)]
            del self._by_name[name][namespace]
            if not self._by_name[name]:
                self._text = None
                del self._by_name[name]
                del self._names[bisect_left(self._names, name)]
            return
        if before is None:
            insort(self._keys, key)
        self._entries[key] = after
        if name not in self._by_name:
            self._by_name[name] = {}
            self._text = None
            insort(self._names, name)
        self._by_name[name][namespace] = after

    def since(self, version: int) -> list[Change] | None:
        """What changed after that version, oldest first; None if the log does not go back that far."""
        if version > self.version:
            return None
        count = self.version - version
        if count > len(self._log):
            return None
        return [self._log[index] for index in range(len(self._log) - count, len(self._log))]

    def listen(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Have it called after each update; returns what ends that."""
        token = object()
        self._listeners[token] = callback

        def end() -> None:
            self._listeners.pop(token, None)

        return end

    def set_loaded(self) -> None:
        """All that exists is in it."""
        if not self.loaded:
            self.loaded = True
            self._tell()

    def _tell(self) -> None:
        for callback in list(self._listeners.values()):
            callback()
