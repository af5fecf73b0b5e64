"""Which of a source's adapters a resource stands for. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from fnmatch import fnmatchcase

from lora_operator.sources.base import BrokenAdapter


def select(
    names: Iterable[str],
    pattern: str | None = None,
    prefix: str | None = None,
    adapters: Collection[str] = (),
) -> tuple[tuple[str, ...], tuple[BrokenAdapter, ...]]:
    """The names that pass all of glob, prefix and list, sorted, and an entry for each listed name that is not there.

    What is absent (None, empty) lets everything pass. Case counts.
    """
    there = set(names)
    chosen = sorted(name for name in there if passes(name, pattern, prefix, adapters))
    absent = sorted(set(adapters) - there)
    return tuple(chosen), tuple(not_found(name) for name in absent)


def passes(name: str, pattern: str | None, prefix: str | None, adapters: Collection[str]) -> bool:
    """Whether one name passes all that are given."""
    if adapters and name not in adapters:
        return False
    if prefix and not name.startswith(prefix):
        return False
    return not pattern or fnmatchcase(name, pattern)


def not_found(name: str) -> BrokenAdapter:
    """The entry for a name that was asked for and that the source lacks."""
    return BrokenAdapter(
        name, "NotFound", f"the source has no adapter called {name[:128]!r}: correct the name, or put the adapter there"
    )
