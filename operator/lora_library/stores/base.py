"""What a store can do, and how it fails."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


class StoreError(Exception):
    """The store refused, or did not answer; the message names the key and carries no credentials."""


class Missing(StoreError):
    """There is no such key."""


@dataclass(frozen=True, slots=True)
class StoredKey:
    key: str
    size_bytes: int
    modified_at: float


class Store(Protocol):
    """Blocking, and safe for several threads. All raise StoreError. A key is whole or absent, whoever is killed."""

    def put_file(self, key: str, file: Path) -> None: ...
    def put(self, key: str, content: bytes) -> None: ...
    def copy(self, source: str, target: str) -> None:
        """Raises Missing."""
        ...

    def get(self, key: str) -> bytes:
        """For what is small. Raises Missing."""
        ...

    def read(self, key: str, begin: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Bytes [begin, end), in pieces. Raises Missing."""
        ...

    def keys(self, prefix: str) -> Iterator[StoredKey]:
        """All below a folder, which ends in a slash or is empty."""
        ...

    def delete(self, key: str) -> None:
        """What is not there is deleted already."""
        ...

    def tidy(self, before: float) -> int:
        """Remove what uploads that were broken off left before then. How much it was."""
        ...

    def source(self, prefix: str) -> Mapping[str, str]:
        """`adapterSource` of a folder, for LoraAdapters."""
        ...

    def check(self) -> None:
        """Whether the store answers and the place is there."""
        ...


def delete_below(store: Store, prefix: str) -> int:
    """Delete a folder, or a key. How many keys it were."""
    found = [each.key for each in store.keys(f"{prefix}/")]
    for key in [*found, prefix]:
        store.delete(key)
    return len(found)
