"""Makes room for an adapter that fits nowhere by moving a copy that serves to another pod, before it goes from its own.

Such a move lasts several rounds, and nobody remembers it: as long as the adapter lacks its place, each round finds that
the same copy can go, now because another one of the same adapter is on its way or there already, and keeps that one.
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import nlargest, nsmallest

from lora_scheduler.allotment import Allotment
from lora_scheduler.balance.rebalancing import Rebalancing
from lora_scheduler.balance.shifting import by_share, free_bytes, free_slots
from lora_scheduler.board import options
from lora_scheduler.filters import keeps
from lora_scheduler.ledger import Copy, PodLedger
from lora_scheduler.placement import allot

PODS_TRIED = 32  # pods that lack the least for the adapter
PARTNERS = 8  # pods with the most room for what has to go
FAILURES = 4  # adapters in vain, after which no more are tried in this round


def clear(lacking: Sequence[Allotment], moves: Rebalancing) -> None:
    """Begin such moves, or go on with them, for adapters that lack copies, in this order."""
    failures = 0
    hopeless: dict[int, int] = {}  # by group: the size from which on nothing could be done
    promised: set[str] = set()  # pods where room is being made for one of them
    for allotment in lacking:
        group, size = id(allotment.group), allotment.adapter.bytes
        if failures < FAILURES and size < hopeless.get(group, size + 1) and not _clear(allotment, promised, moves):
            failures += 1
            hopeless[group] = size


def _clear(allotment: Allotment, promised: set[str], moves: Rebalancing) -> bool:
    pods = nsmallest(PODS_TRIED, options(allotment), key=lambda pod: (*_shortage(pod, allotment), pod.key))
    candidates = [
        copy
        for pod in pods
        if pod.key not in promised
        for copy in by_share(pod)
        if copy.serving_current and copy.adapter is not allotment.adapter and _makes_room(copy, pod, allotment)
    ]
    for copy in candidates:
        if _go_on(copy, moves):
            promised.add(copy.ledger.key)
            return True
    if moves.budget <= 0:
        return False
    roomy = [pod for pod in allotment.group.targets if free_slots(pod) > 0]
    partners = nlargest(PARTNERS, roomy, key=free_bytes)
    for copy in candidates:
        other = next((pod for pod in partners if pod is not copy.ledger and moves.takes(copy, pod)), None)
        if other is not None and moves.at_rest(copy):
            moves.move(copy, other)
            promised.add(copy.ledger.key)
            return True
    return False


def _shortage(pod: PodLedger, allotment: Allotment) -> tuple[int, int]:
    slots, size = pod.shortage(allotment.adapter.bytes, allotment.pending.get(pod.key))
    return max(slots, 0), max(size, 0)


def _makes_room(copy: Copy, pod: PodLedger, allotment: Allotment) -> bool:
    """Whether the adapter fits once this copy has gone, or does not need that much."""
    slots, size = _shortage(pod, allotment)
    return slots <= 1 and size <= copy.bytes


def _go_on(copy: Copy, moves: Rebalancing) -> bool:
    """If another copy of the same adapter is one too many, keep that one instead; or wait if this one goes anyhow."""
    allotment = moves.shifting.fleet.allotments[copy.adapter.key]
    here = copy.ledger.key
    if here in allotment.pending:
        return True
    surplus = {**allotment.dropped, **allotment.pending}
    for key in sorted(surplus):
        other = surplus[key]
        if other.current is not None and _may_stay(other, allotment):
            allot(allotment, other.ledger)
            if other.serving_current:
                allotment.drop(copy)
            else:
                allotment.postpone(copy)
            moves.budget -= 1
            return True
    return False


def _may_stay(copy: Copy, allotment: Allotment) -> bool:
    pod = copy.ledger
    room = pod.fits_later(copy.bytes, allotment.pending.get(pod.key))
    return room and pod.target and pod.key in allotment.group.matching and keeps(copy)
