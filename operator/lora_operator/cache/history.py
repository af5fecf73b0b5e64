"""What a cache remembers of what is gone: `<root>/.index/history.json`, rewritten under the root's lock.

Losing it costs the statistics of the past and a few worse choices.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from lora_operator.cache.copying import write_whole
from lora_operator.cache.entry import Entry, Key
from lora_operator.cache.policies.base import Memory
from lora_operator.cache.records import FOLDER
from lora_operator.cache.scratch import parent_of_ours

THRASH_SECONDS = 3600.0
MOST_REMEMBERED = 10_000
_FILE = "history.json"


@dataclass(frozen=True, slots=True)
class Counts:
    """Since the counting began. `thrash` counts evictions within the budget whose version was fetched again within an
    hour."""

    hits: int = 0
    misses: int = 0
    evictions: int = 0
    evicted_bytes: int = 0
    thrash: int = 0

    def plus(self, *, hits: int = 0, misses: int = 0, thrash: int = 0, gone: Iterable[Entry] = ()) -> Counts:
        sizes = [entry.size_bytes for entry in gone]
        return Counts(
            self.hits + hits,
            self.misses + misses,
            self.evictions + len(sizes),
            self.evicted_bytes + sum(sizes),
            self.thrash + thrash,
        )


@dataclass(frozen=True, slots=True)
class History:
    """`counts.hits` are those of versions that are gone: the others' are in their records."""

    counts: Counts = field(default_factory=Counts)
    gone: tuple[tuple[Key, float], ...] = ()  # (version, when it was evicted), the oldest first
    memory: Memory = field(default_factory=Memory)

    def evicted(self, entries: Iterable[Entry], now: float) -> History:
        entries = tuple(entries)
        keys = {entry.key for entry in entries}
        kept = [(key, at) for key, at in self.gone if now - at <= THRASH_SECONDS and key not in keys]
        return replace(
            self,
            counts=self.counts.plus(hits=sum(entry.hits for entry in entries), gone=entries),
            gone=(*kept, *((key, now) for key in sorted(keys)))[-MOST_REMEMBERED:],
        )

    def missed(self, key: Key, now: float) -> History:
        """`key` is fetched, because somebody asked for it or will."""
        at = dict(self.gone).get(key)
        thrash = int(at is not None and now - at <= THRASH_SECONDS)
        return replace(
            self,
            counts=self.counts.plus(misses=1, thrash=thrash),
            gone=tuple(item for item in self.gone if item[0] != key),
        )


def load(root: Path) -> History:
    """Raises OSError."""
    try:
        noted = json.loads((root / FOLDER / _FILE).read_bytes())
        memory, hand = noted["memory"], noted["memory"]["hand"]
        return History(
            Counts(**{name: int(noted["counts"][name]) for name in Counts.__slots__}),
            tuple(((str(name), str(fingerprint)), float(at)) for name, fingerprint, at in noted["gone"]),
            Memory(
                hand=(float(hand[0]), (str(hand[1]), str(hand[2]))) if hand else None,
                passed={(str(name), str(fingerprint)): int(hits) for name, fingerprint, hits in memory["passed"]},
                inflation=tuple((float(since), float(value)) for since, value in memory["inflation"]),
            ),
        )
    except FileNotFoundError:
        return History()
    except (ValueError, KeyError, TypeError, IndexError):
        return History()


def save(root: Path, history: History) -> None:
    """Raises OSError."""
    parent_of_ours(root, FOLDER)
    memory = history.memory
    noted = {
        "counts": {name: getattr(history.counts, name) for name in Counts.__slots__},
        "gone": [[*key, at] for key, at in history.gone],
        "memory": {
            "hand": [memory.hand[0], *memory.hand[1]] if memory.hand else None,
            "passed": [[*key, hits] for key, hits in memory.passed.items()],
            "inflation": memory.inflation,
        },
    }
    write_whole(root / FOLDER / _FILE, json.dumps(noted).encode())
