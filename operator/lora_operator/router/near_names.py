"""Which names a wrong one may have been meant for. Bounded: in a large table all of them would cost a second."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import SequenceMatcher

from lora_operator.router.entries import Entry
from lora_operator.router.table import RoutingTable

MOST = 5
SIMILAR = 0.6
NEIGHBOURS = 16
SHARING = 32
COMPARED = 12
LONGEST = 200
EXACT = 128


def owned(entry: Entry, owners: frozenset[str] | None) -> bool:
    """Whether it is of one of these; None is any."""
    return owners is None or entry.owner in owners


def near_names(
    table: RoutingTable, name: str, namespace: str | None = None, owners: frozenset[str] | None = None
) -> tuple[str, ...]:
    """At most five adapters of similar names, the most similar first, in whatever case they are written.

    Compared are the neighbours in the alphabet, and names that share a third of this one: where two letters are wrong,
    one of three parts is right all the same.
    """
    if len(name) > LONGEST:
        return ()
    meant = SequenceMatcher(b=name.lower(), autojunk=False)
    quick: list[tuple[float, str]] = []
    for candidate in sorted(set(_candidates(table, name, namespace))):
        if owners is not None and not _is_owned(table, candidate, namespace, owners):
            continue
        meant.set_seq1(candidate.lower())
        if meant.real_quick_ratio() >= SIMILAR and (ratio := meant.quick_ratio()) >= SIMILAR:
            quick.append((-ratio, candidate))
    found: list[tuple[float, str]] = []
    for upper, candidate in sorted(quick)[:COMPARED]:
        meant.set_seq1(candidate.lower())
        # the time of the exact ratio may grow with the square of the lengths: for long names its upper bound has to do
        if (ratio := meant.ratio() if len(name) + len(candidate) <= EXACT else -upper) >= SIMILAR:
            found.append((-ratio, candidate))
    return tuple(candidate for _, candidate in sorted(found)[:MOST])


def _is_owned(table: RoutingTable, name: str, namespace: str | None, owners: frozenset[str]) -> bool:
    return any(owned(one, owners) for one in table.named(name) if namespace in (None, one.namespace))


def _candidates(table: RoutingTable, name: str, namespace: str | None) -> Iterator[str]:
    yield from table.neighbours(name, namespace, NEIGHBOURS)
    third = max(len(name) // 3, 2)
    pieces = {name.lower()[:third], name.lower()[third : 2 * third], name.lower()[2 * third :]}
    for piece in pieces:
        if len(piece) < 2:
            continue
        for candidate in table.containing(piece, SHARING):
            if namespace is None or table.get(namespace, candidate) is not None:
                yield candidate
