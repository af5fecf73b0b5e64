"""Whose replicas make room: the fewest of the lowest priority, and within a priority second replicas before first ones.

As in Kueue, first the highest standing among the victims is made as low as possible, then their number. On one pod
every victim frees one slot, so that the fewest victims are the largest ones: the minimum is found exactly, and nobody
has to be added back afterwards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from operator import itemgetter

from lora_scheduler.allotment import Allotment
from lora_scheduler.ledger import PodLedger, Replica
from lora_scheduler.model import YIELDING, Adapter, PreemptionPolicy, ReplicaPolicy, UnloadCause

Cost = tuple[int, int]  # highest standing among the victims, how many

# The standing of a replica without which nothing would be missing; only what nobody uses goes before. That of all
# others is twice their priority, and one more for a first replica.
SPARE = 2 * YIELDING
KNOWN = 64  # bounds that are kept of one pod


def standing(replica: Replica, allotments: Mapping[str, Allotment]) -> int:
    """How firmly a replica holds its room."""
    allotment = allotments[replica.adapter.key]
    return SPARE if allotment.spare else 2 * replica.adapter.effective_priority + is_first(replica, allotment)


def is_first(replica: Replica, allotment: Allotment) -> bool:
    """Whether without this replica the adapter would have none, or none that serves although it has one now."""
    kept = allotment.kept
    if len(kept) < 2:
        return True
    return replica.serving and not any(other.serving for other in kept.values() if other is not replica)


def cheapest(candidates: Sequence[Replica], slots: int, size: int, allotments: Mapping[str, Allotment]) -> Cost | None:
    """The price of freeing so many slots and bytes; None if even all candidates together do not free them."""
    freed_slots = freed_bytes = 0
    ranked = sorted([(standing(replica, allotments), place) for place, replica in enumerate(candidates)])
    allowed: list[Replica] = []
    for highest, places in groupby(ranked, key=itemgetter(0)):
        for _, place in places:
            replica = candidates[place]
            allowed.append(replica)
            freed_slots += 1
            freed_bytes += replica.bytes
        if freed_slots >= slots and freed_bytes >= size:
            return highest, _fewest(allowed, slots, size)
    return None


def victims(candidates: Sequence[Replica], slots: int, size: int, allotments: Mapping[str, Allotment]) -> list[Replica]:
    """A set of that price (there must be one); among such sets, the one that hurts least."""
    cost = cheapest(candidates, slots, size, allotments)
    if cost is None:
        raise ValueError("no set of candidates frees that much; ask cheapest() first")
    highest, count = cost

    def pain(replica: Replica) -> tuple[int, bool, int, str]:
        # the lower standing, then who does not serve yet, then the younger
        return standing(replica, allotments), replica.serving, -replica.adapter.age_rank, replica.adapter.key

    chosen: list[Replica] = []
    left = sorted((replica for replica in candidates if standing(replica, allotments) <= highest), key=pain)
    while len(chosen) < count:
        replica = left.pop(0)
        others = sorted((other.bytes for other in left), reverse=True)[: count - len(chosen) - 1]
        enough = len(others) == count - len(chosen) - 1
        if enough and replica.bytes + sum(others) >= size:
            chosen.append(replica)
            size -= replica.bytes
    return chosen


def relieve(ledger: PodLedger, allotments: Mapping[str, Allotment]) -> None:
    """Take replicas off a pod that is over a limit (limits were lowered, or somebody else loaded something).

    If it stays over the limit even without all of ours, they stay: taking them away would help nobody.
    """
    slots, size = ledger.later_slots - ledger.slot_limit, ledger.later_bytes - ledger.byte_limit
    if not ledger.target or (slots <= 0 and size <= 0):
        return
    candidates = list(ledger.replicas.values())
    if cheapest(candidates, slots, size, allotments) is not None:
        for replica in victims(candidates, slots, size, allotments):
            allotments[replica.adapter.key].evict(replica, UnloadCause.SURPLUS)


def reach(adapter: Adapter) -> int:
    """The priority below which it may take the room of others: who preempts nobody has the room that nobody uses."""
    return adapter.effective_priority if adapter.preemption is PreemptionPolicy.LOWER_PRIORITY else YIELDING


def weaker(ledger: PodLedger, priority: int, allotments: Mapping[str, Allotment]) -> list[Replica]:
    """The replicas on a pod that may be taken the room of by whoever reaches up to this priority: those of lower ones,
    and of equal ones those that are spare."""
    return [
        replica
        for replica in ledger.replicas.values()
        if replica.adapter.effective_priority < priority
        or (
            replica.adapter.effective_priority == priority
            and replica.residents
            and allotments[replica.adapter.key].spare
        )
    ]


def bound(ledger: PodLedger, size: int, reach: int) -> Cost | None:
    """What the room for a replica of this size costs there at least, in that of priorities below `reach`; None if even
    all of them have too little. It goes by how many replicas adapters ask for, not by how many they have: that is known
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
            replica.bytes,
        )
        for replica in ledger.replicas.values()
        if (adapter := replica.adapter).effective_priority < reach
    ]
    ranked.sort()
    freed = 0
    for count, (highest, replica_bytes) in enumerate(ranked, 1):
        freed += replica_bytes
        if count >= slots and freed >= size and (count == len(ranked) or ranked[count][0] > highest):
            return highest, _count([other for _, other in ranked[:count]], slots, size)
    return SPARE, 0  # nothing is there, and nothing has to leave


def _fewest(replicas: Sequence[Replica], slots: int, size: int) -> int:
    """How many of them are needed; together they are enough."""
    return _count([replica.bytes for replica in replicas], slots, size)


def _count(sizes: list[int], slots: int, size: int) -> int:
    count = freed = 0
    for replica_bytes in sorted(sizes, reverse=True):
        if count >= slots and freed >= size:
            break
        count += 1
        freed += replica_bytes
    return count
