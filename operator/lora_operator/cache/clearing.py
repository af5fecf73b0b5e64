"""Clears a store of what is old, unwanted, broken or left over by the dead. Blocking, under the root's lock."""

from __future__ import annotations

from collections.abc import Collection

from lora_operator.cache import history as histories
from lora_operator.cache.entry import Entry, Key
from lora_operator.cache.leases import FOLDER as LEASES
from lora_operator.cache.leases import Leases
from lora_operator.cache.partial import ABANDONED_SECONDS, drop, taken
from lora_operator.cache.records import FOLDER as RECORDS
from lora_operator.cache.room import remove
from lora_operator.cache.scratch import sweep_scratch
from lora_operator.cache.shelf import Shelf
from lora_operator.cache.store_error import StoreError
from lora_operator.cache.victims import Choice, Evicted, Why


def sweep(shelf: Shelf, keep: Collection[Key], older_than_seconds: float, now: float) -> list[Evicted]:
    """Remove what is neither in `keep`, pinned nor leased, and was last used more than `older_than_seconds` ago.

    What is in `keep` is marked as used, so that others who sweep here see that. Raises StoreError, OSError.
    """
    root = shelf.root
    gone: list[Evicted] = []
    with shelf.changing():
        _sweep_left_overs(shelf, now)
        entries = shelf.entries()
        safe = frozenset(keep) | Leases(root).held(now)
        old = []
        for entry in entries:
            if entry.key in keep:
                shelf.mark_used(entry.key, now)
            elif entry.key not in safe and not entry.pinned and entry.last_used < now - older_than_seconds:
                old.append(entry)
        if old:
            _remove(shelf, old, Why.EXPIRED, now, gone)
    return gone


def evict(shelf: Shelf, key: Key, in_use: Collection[Key], now: float) -> list[Evicted]:
    """Remove this version, as somebody wishes.

    Raises StoreError (InUse, Pinned), OSError.
    """
    gone: list[Evicted] = []
    with shelf.changing():
        for entry in shelf.entries():
            if entry.key != key:
                continue
            if key in in_use or key in Leases(shelf.root).held(now):
                raise StoreError(
                    "InUse",
                    f"{key[0]} {key[1]} is loaded by an engine, which would die without its files: unload it first",
                    retryable=True,
                )
            if entry.pinned:
                raise StoreError("Pinned", f"{key[0]} {key[1]} is pinned: unpin it first", retryable=False)
            _remove(shelf, [entry], Why.REQUESTED, now, gone)
    return gone


def repair(shelf: Shelf, in_use: Collection[Key] | None, now: float) -> tuple[int, list[Evicted]]:
    """Find and remove half states: how many left-overs those were, and the versions that were not whole.

    Raises StoreError, OSError.
    """
    root = shelf.root
    gone: list[Evicted] = []
    with shelf.changing():
        repaired = _sweep_left_overs(shelf, now)
        for folder in (root / RECORDS, root / LEASES):
            for path in folder.glob(".*"):  # written to be renamed, and never renamed
                path.unlink(missing_ok=True)
                repaired += 1
        # before records are begun for those that have none
        broken = {key for key in shelf.versions() if shelf.lacks(key, shelf.files_of(key))}
        entries = shelf.entries()
        safe = {e.key for e in entries} if in_use is None else frozenset(in_use)
        if broken:
            broken -= safe | Leases(root).held(now)
            _remove(shelf, [e for e in entries if e.key in broken], Why.BROKEN, now, gone)
        there = {entry.key for entry in entries} - broken
        for key in set(shelf.records.keys()) - there:
            shelf.records.forget(key)
            repaired += 1
        repaired += shelf.remove_empty()
    return repaired, gone


def _remove(shelf: Shelf, entries: list[Entry], why: Why, now: float, gone: list[Evicted]) -> None:
    victims = tuple(Evicted(entry.name, entry.fingerprint, entry.size_bytes, why) for entry in entries)
    past = histories.load(shelf.root)
    remove(shelf, entries, Choice(victims, memory=past.memory), past, now, gone)


def _sweep_left_overs(shelf: Shelf, now: float) -> int:
    swept = sweep_scratch(shelf.root, now)
    there = set(shelf.versions())
    for left in taken(shelf.root, now):
        no_use = left.key in there or now - left.touched_at > ABANDONED_SECONDS
        if no_use and not left.alive and drop(left, now):
            swept += 1
    return swept
