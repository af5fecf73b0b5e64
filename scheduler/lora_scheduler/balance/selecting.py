"""Decides anew, pod by pod, who gets the room that is too little for all: of what has not begun there and what lacks a
place, those of one priority that bring the most requests together.

One after the other by worth, as all have been served before, leaves room in pieces that a better choice would use.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from heapq import nlargest

from lora_scheduler.allotment import Allotment
from lora_scheduler.balance.shifting import Shifting, free_bytes, free_slots, may_hold
from lora_scheduler.ledger import PodLedger, Replica
from lora_scheduler.placement import allot
from lora_scheduler.steps import start

PODS_TRIED = 12  # those with the most memory left
CANDIDATES = 12  # adapters without a place: the largest shares, and as many with the largest shares for their size
PASSES = 3
NODES = 400  # of the search for the best choice on one pod


@dataclass(frozen=True, slots=True)
class _Item:
    """One that may have a place on the pod; `replica` is the one it has there already."""

    allotment: Allotment
    replica: Replica | None
    bytes: int
    share: float


def select(lacking: Iterable[Allotment], shifting: Shifting) -> None:
    """Give places to adapters that lack them in exchange for such as are worth less."""
    levels: dict[int, list[Allotment]] = {}
    for allotment in lacking:
        if allotment.share and not allotment.kept and _may_change(allotment):
            levels.setdefault(allotment.adapter.effective_priority, []).append(allotment)
    if not levels:
        return
    begun = {replica.ledger.key: replica.ledger for replica in shifting.steps.begun()}
    pods = nlargest(PODS_TRIED, begun.values(), key=lambda pod: (free_bytes(pod), pod.key))
    for _, level in sorted(levels.items(), reverse=True):
        passes = PASSES
        while passes > 0 and _improve(pods, level, shifting):
            passes -= 1


def _may_change(allotment: Allotment) -> bool:
    """Whether demand can speak for or against it, and nothing is under way with it."""
    return allotment.adapter.demand is not None and not (
        allotment.pending or allotment.dropped or allotment.evicted or allotment.leaving
    )


def _improve(pods: Iterable[PodLedger], level: list[Allotment], shifting: Shifting) -> bool:
    """Choose anew on each pod; whether that has changed anything."""
    changed = [_select(pod, level, shifting) for pod in pods]
    return any(changed)


def _select(pod: PodLedger, level: list[Allotment], shifting: Shifting) -> bool:
    allotments = shifting.fleet.allotments
    priority = level[0].adapter.effective_priority
    there = [
        _Item(allotments[replica.adapter.key], replica, replica.bytes, replica.share)
        for replica in shifting.movable(pod)
        if replica.adapter.effective_priority == priority and _may_change(allotments[replica.adapter.key])
    ]
    slots, size = free_slots(pod) + len(there), free_bytes(pod) + sum([item.bytes for item in there])
    others = _candidates(level, pod, size, shifting) if there else []
    if not others:
        return False
    chosen = _best([*there, *others], slots, size, sum([item.share for item in there]))
    for item in there if chosen else ():
        if item not in chosen:
            assert item.replica is not None  # it is there
            shifting.cancel(item.replica)
            level.append(item.allotment)
    for item in chosen:
        if item.replica is None:
            allot(item.allotment, pod)
            start(item.allotment, shifting.fleet, shifting.steps)
    return bool(chosen)


def _candidates(level: Iterable[Allotment], pod: PodLedger, size: int, shifting: Shifting) -> list[_Item]:
    """Those that lack a replica and could have one on the pod; one of each name, which an engine has only once."""
    found: dict[str, _Item] = {}
    for allotment in level:
        adapter = allotment.adapter
        if (
            allotment.missing > 0
            and not allotment.kept  # second replicas do not come before first ones
            and adapter.bytes <= size
            and may_hold(allotment, pod)
            and not shifting.fleet.blocks(allotment, pod)
        ):
            found.setdefault(adapter.name, _Item(allotment, None, adapter.bytes, allotment.share))
    largest = nlargest(CANDIDATES, found.values(), key=lambda item: item.share)
    densest = nlargest(CANDIDATES, found.values(), key=lambda item: item.share / max(item.bytes, 1))
    return [*largest, *(item for item in densest if item not in largest)]


def _best(items: Sequence[_Item], slots: int, size: int, worth: float) -> list[_Item]:
    """The items that have room and the most requests together, empty if that is not more than `worth`: by branch and
    bound, first those that bring the most for what they take, and only so far as a few steps go."""
    line = sorted(items, key=lambda i: -i.share / (i.bytes / max(size, 1) + 1 / slots))
    most = [0.0] * (len(line) + 1)  # a slot can bring from here on
    rest = [0.0] * (len(line) + 1)  # all together can bring
    for position in range(len(line) - 1, -1, -1):
        most[position] = max(most[position + 1], line[position].share)
        rest[position] = rest[position + 1] + line[position].share
    best: list[_Item] = []
    nodes = NODES
    # (position in line, free slots, free bytes, worth, chosen); the last one entered is looked at first
    stack: list[tuple[int, int, int, float, tuple[int, ...]]] = [(0, slots, size, 0.0, ())]
    while stack and nodes > 0:
        nodes -= 1
        position, slots, size, reached, chosen = stack.pop()
        if reached > worth:
            worth, best = reached, [line[place] for place in chosen]
        if reached + min(rest[position], slots * most[position]) <= worth:
            continue
        item = line[position]
        stack.append((position + 1, slots, size, reached, chosen))
        if item.bytes <= size:
            stack.append((position + 1, slots - 1, size - item.bytes, reached + item.share, (*chosen, position)))
    return best
