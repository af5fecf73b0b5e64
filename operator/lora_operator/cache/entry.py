"""What the cache knows of one version, as plain values. Pure."""

from __future__ import annotations

from dataclasses import dataclass

Key = tuple[str, str]  # (name, fingerprint)


@dataclass(frozen=True, slots=True)
class Entry:
    """One whole version on the disk. Times are Unix time.

    `hits` counts how often it was asked for and found. `load_seconds` is how long it took to fetch, 0 where nobody
    measured it. What was `prefetched` counts as unused until its first hit.
    """

    name: str
    fingerprint: str
    size_bytes: int
    added_at: float
    last_used: float
    hits: int = 0
    load_seconds: float = 0.0
    prefetched: bool = False
    pinned: bool = False

    @property
    def key(self) -> Key:
        return self.name, self.fingerprint

    @property
    def unused(self) -> bool:
        return self.prefetched and not self.hits
