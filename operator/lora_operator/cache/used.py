"""How many bytes the versions of a store take, so that most fetches need not look at all of them: `<root>/.index/used`.

Whoever changes the store empties the file first and writes the new sum last: one that died in between leaves it empty,
and the next one counts anew. All under the root's lock.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lora_operator.cache.records import FOLDER
from lora_operator.cache.scratch import parent_of_ours

_FILE = "used"


def used_bytes(root: Path) -> int | None:
    """None where nobody knows: count. Raises OSError."""
    try:
        return int((root / FOLDER / _FILE).read_bytes())
    except (FileNotFoundError, ValueError):
        return None


def note_used(root: Path, size_bytes: int) -> None:
    """What was just counted. Raises OSError."""
    (parent_of_ours(root, FOLDER) / _FILE).write_bytes(b"%d" % size_bytes)


@contextmanager
def changing_used(root: Path, by_bytes: int) -> Iterator[None]:
    """Around what makes the versions take `by_bytes` more, or less; after an error nobody knows. Raises OSError."""
    before = used_bytes(root)
    (parent_of_ours(root, FOLDER) / _FILE).write_bytes(b"")
    yield
    if before is not None:
        note_used(root, before + by_bytes)
