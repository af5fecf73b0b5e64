"""Whose copies make room: the fewest of the lowest priority, and within a priority second replicas before first ones.

As in Kueue, first the highest standing among the victims is made as low as possible, then their number. On one pod
every victim frees one slot, so that the fewest victims are the largest ones: the minimum is found exactly, and nobody
has to be added back afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from operator import itemgetter

from lora_scheduler.allotment import Allotment
from lora_scheduler.ledger import Copy, PodLedger
from lora_scheduler.model import YIELDING, Adapter, PreemptionPolicy, ReplicaPolicy, UnloadCause

Cost = tuple[int, int]  # highest standing among the victims, how many

# The standing of a copy without which nothing would be missing; only what nobody uses goes before. That of all others
# is twice their priority, and one more for a first replica.
SPARE = 2 * YIELDING
KNOWN = 64  # bounds that are kept of one pod


def standing(copy: Copy, allotments: Mapping[str, Allotment]) -> int:
    """How firmly a copy holds its room."""
    allotment = allotments[copy.adapter.key]
    return SPARE if allotment.spare else 2 * copy.adapter.effective_priority + is_first(copy, allotment)


def is_first(copy: Copy, allotment: Allotment) -> bool:
    """Whether without this copy the adapter would have none, or none that serves although it has one now."""
    kept = allotment.kept
    if len(kept) < 2:
        return True
    return copy.serving and not any(other.serving for other in kept.values() if other is not copy)


def cheapest(candidates: Sequence[Copy], slots: int, size: int, allotments: Mapping[str, Allotment]) -> Cost | None:
    """The price of freeing so many slots and bytes; None if even all candidates together do not free them."""
    freed_slots = freed_bytes = 0
    ranked = sorted([(standing(copy, allotments), place) for place, copy in enumerate(candidates)])
    allowed: list[Copy] = []
    for highest, places in groupby(ranked, key=itemgetter(0)):
        for _, place in places:
            copy = candidates[place]
            allowed.append(copy)
            freed_slots += 1
            freed_bytes += copy.bytes
        if freed_slots >= slots and freed_bytes >= size:
            return highest, _fewest(allowed, slots, size)
    return None


def victims(candidates: Sequence[Copy], slots: int, size: int, allotments: Mapping[str, Allotment]) -> list[Copy]:
    """A set of that price (there must be one); among such sets, the one that hurts least."""
    cost = cheapest(candidates, slots, size, allotments)
    if cost is None:
        raise ValueError("no set of candidates frees that much; ask cheapest() first")
    highest, count = cost

    def pain(copy: Copy) -> tuple[int, bool, int, str]:
        # the lower standing, then who does not serve yet, then the younger
        return standing(copy, allotments), copy.serving, -copy.adapter.age_rank, copy.adapter.key

    chosen: list[Copy] = []
    left = sorted((copy for copy in candidates if standing(copy, allotments) <= highest), key=pain)
    while len(chosen) < count:
        copy = left.pop(0)
        others = sorted((other.bytes for other in left), reverse=True)[: count - len(chosen) - 1]
        enough = len(others) == count - len(chosen) - 1
        if enough and copy.bytes + sum(others) >= size:
            chosen.append(copy)
            size -= copy.bytes
    return chosen


def relieve(ledger: PodLedger, allotments: Mapping[str, Allotment]) -> None:
    """Take copies off a pod that is over a limit (limits were lowered, or somebody else loaded something).

    If it stays over the limit even without all of ours, they stay: taking them away would help nobody.
    """
    slots, size = ledger.later_slots - ledger.slot_limit, ledger.later_bytes - ledger.byte_limit
    if not ledger.target or (slots <= 0 and size <= 0):
        return
    candidates = list(ledger.copies.values())
    if cheapest(candidates, slots, size, allotments) is not None:
        for copy in victims(candidates, slots, size, allotments):
            allotments[copy.adapter.key].evict(copy, UnloadCause.SURPLUS)


def reach(adapter: Adapter) -> int:
    """The priority below which it may take the room of others: who preempts nobody has the room that nobody uses."""
    return adapter.effective_priority if adapter.preemption is PreemptionPolicy.LOWER_PRIORITY else YIELDING


def weaker(ledger: PodLedger, priority: int, allotments: Mapping[str, Allotment]) -> list[Copy]:
    """The copies on a pod that may be taken the room of by whoever reaches up to this priority: those of lower ones,
    and of equal ones those that are spare."""
    return [
        copy
        for copy in ledger.copies.values()
        if copy.adapter.effective_priority < priority
        or (copy.adapter.effective_priority == priority and copy.residents and allotments[copy.adapter.key].spare)
    ]


def bound(ledger: PodLedger, size: int, reach: int) -> Cost | None:
    """What the room for a copy of this size costs there at least, in that of priorities below `reach`; None if even all
    of them have too little. It goes by how many replicas adapters ask for, not by how many they have: that is known
    until something on the pod changes."""
    asked = size, reach
    known = ledger.bounds
    if asked not in known:
        if len(known) >= KNOWN:
            known.clear()
        known[asked] = _bound(ledger, *ledger.shortage(size), reach)
    return known[asked]


def _bound(ledger: PodLedger, slots: int, size: int, reach: int) -> Cost | None:
    held_slots, held_bytes = ledger.held_below(reach)
    if held_slots < slots or held_bytes < size:
        return None
    ranked = [
        (
            2 * adapter.effective_priority + (adapter.replicas < 2 and adapter.replica_policy is ReplicaPolicy.FIXED),
            copy.bytes,
        )
        for copy in ledger.copies.values()
        if (adapter := copy.adapter).effective_priority < reach
    ]
    ranked.sort()
    freed = 0
    for count, (highest, copy_bytes) in enumerate(ranked, 1):
        freed += copy_bytes
        if count >= slots and freed >= size and (count == len(ranked) or ranked[count][0] > highest):
            return highest, _count([other for _, other in ranked[:count]], slots, size)
    return SPARE, 0  # nothing is there, and nothing has to leave


def _fewest(copies: Sequence[Copy], slots: int, size: int) -> int:
    """How many of them are needed; together they are enough."""
    return _count([copy.bytes for copy in copies], slots, size)


def _count(sizes: list[int], slots: int, size: int) -> int:
    count = freed = 0
    for copy_bytes in sorted(sizes, reverse=True):
        if count >= slots and freed >= size:
            break
        count += 1
        freed += copy_bytes
    return count
