"""Who is served first within a priority when room is scarce.

If there is not enough for all: where demand is known, whoever brings the most of it for the room that it takes. If
there is just enough memory, and slots to spare: those first whose rank few pods can serve, before others have taken the
memory there. Where slots are scarce too, that would leave slots without memory on those pods: see earmarks.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from operator import attrgetter

from lora_scheduler.allotment import LARGEST_SHARE, Allotment
from lora_scheduler.earmarks import Kind, earmark
from lora_scheduler.ledger import UNLIMITED, PodLedger

SCARCE = 0.7  # part of the free room; where less of it is wanted, it does not matter who is served first
ENOUGH = 1.2  # where more than this is wanted, it matters little which kind of pods the few go to that find room
HALVINGS = 6  # of the range of prices: after so many the order changes only among the last few that find room


@dataclass(slots=True)
class Room:
    """What is left of a base model's pods together, or what somebody wants of it."""

    slots: float = 0.0
    bytes: float = 0.0
    kinds: dict[int, Kind] = field(default_factory=dict)  # by the largest rank that pods can serve


def rank_by_worth(active: Iterable[Allotment], pods: Iterable[PodLedger]) -> None:
    """Set the order of those adapters that cannot all find room."""
    lacking: dict[str, list[Allotment]] = {}
    for allotment in active:
        if not allotment.everywhere and allotment.missing > 0:
            lacking.setdefault(allotment.adapter.base_model, []).append(allotment)
    if not lacking:
        return
    free = {model: Room() for model in lacking}
    enough = {model: _enough(wanting) for model, wanting in lacking.items()}
    for pod in pods:
        model = pod.pod.base_model
        if pod.target and model in lacking:
            room = free[model]
            kind = room.kinds.setdefault(pod.pod.max_rank, Kind(pod.pod.max_rank))
            slots = max(pod.slot_limit - pod.later_slots, 0)
            size = UNLIMITED if pod.byte_limit == UNLIMITED else max(pod.byte_limit - pod.later_bytes, 0)
            kind.pods += 1
            kind.slots += slots
            kind.bytes += size
            kind.load += pod.load
            room.slots += slots
            room.bytes += size
            if room.slots >= enough[model].slots and room.bytes >= enough[model].bytes:
                del lacking[model]  # nothing is scarce: most rounds need not look at all pods to know it
                if not lacking:
                    return
    for model, wanting in lacking.items():
        _rank(wanting, free[model])


def _enough(wanting: Iterable[Allotment]) -> Room:
    """So much free room that the order does not matter."""
    slots = size = 0
    for allotment in wanting:
        replicas = allotment.missing
        slots += replicas
        size += replicas * allotment.adapter.bytes
    return Room(slots / SCARCE, size / SCARCE)


def _rank(wanting: list[Allotment], free: Room) -> None:
    levels: dict[int, list[Allotment]] = {}
    for allotment in wanting:
        levels.setdefault(allotment.adapter.effective_priority, []).append(allotment)
    for priority in sorted(levels, reverse=True):
        level = levels[priority]
        slots, size = _wants(level)
        scarce = slots > free.slots or size > free.bytes
        for allotment in level if scarce else ():
            allotment.scarce = True
        if scarce and any(a.adapter.demand for a in level):
            _set_order(level, _price_of_memory(level, free), free)
        elif len(free.kinds) > 1 and slots <= SCARCE * free.slots and size > SCARCE * free.bytes:
            _put_high_ranks_first(level, sorted(free.kinds))
        if len(free.kinds) > 1 and all(
            SCARCE * there < wanted <= ENOUGH * there for wanted, there in ((slots, free.slots), (size, free.bytes))
        ):
            earmark(level, [free.kinds[rank] for rank in sorted(free.kinds)])
        free.slots, free.bytes = max(free.slots - slots, 0), max(free.bytes - size, 0)


def _wants(level: Sequence[Allotment]) -> tuple[int, int]:
    """Slots and bytes that are wanted in all."""
    replicas = [allotment.missing for allotment in level]
    return sum(replicas), sum([count * one.adapter.bytes for count, one in zip(replicas, level, strict=True)])


def _price_of_memory(level: Sequence[Allotment], free: Room) -> float:
    """Between 0 (only slots are scarce) and 1 (only memory is), so that both run out at about the same time."""
    low, high = 0.0, 1.0
    if not _memory_runs_out_first(level, free, low):
        return low
    if _memory_runs_out_first(level, free, high):
        return high
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if _memory_runs_out_first(level, free, middle):
            low = middle
        else:
            high = middle
    return high


def _memory_runs_out_first(level: Sequence[Allotment], free: Room, price: float) -> bool:
    slots, size = free.slots, free.bytes
    _set_order(level, price, free)
    served = iter(sorted(level, key=attrgetter("order")))
    while slots >= 0 and size >= 0:  # together they want more than there is
        allotment = next(served)
        replicas = allotment.missing
        slots -= replicas
        size -= replicas * allotment.adapter.bytes
    return size < 0


def _set_order(level: Sequence[Allotment], price: float, free: Room) -> None:
    per_slot, per_byte = (1 - price) / max(free.slots, 1), price / max(free.bytes, 1)
    for allotment in level:
        cost = per_slot + per_byte * allotment.adapter.bytes
        priority, _, age, key = allotment.order
        allotment.order = priority, -allotment.share / cost if cost else 0.0, age, key


def _put_high_ranks_first(level: Sequence[Allotment], ranks: Sequence[int]) -> None:
    for allotment in level:
        priority, worth, age, key = allotment.order
        allotment.order = priority, worth - 2 * LARGEST_SHARE * bisect_left(ranks, allotment.adapter.rank), age, key
