"""Adapters that lack replicas and find no room: which of them have a prospect of a place in this round.

In a fleet that is too small for all there are thousands of them, and most events bring none of them any nearer to a
place. Only those are served for which, at the turn of their priority, some pod has room or could make it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from lora_scheduler.allotment import Allotment
from lora_scheduler.filters import loadable
from lora_scheduler.finding import order_of
from lora_scheduler.ledger import PodLedger
from lora_scheduler.precedence import rank_by_worth
from lora_scheduler.preemption import reach

FEW_PODS = 16  # with room: so many are looked at one by one
PER_SLOT, AT_LEAST = 4, 32  # so many candidates for what is free on few pods, of all that would fit there


@dataclass(frozen=True, slots=True)
class Kind:
    """What decides where there could be room for an adapter."""

    base_model: str
    reach: int
    rank: int
    bytes: int


class Waiting:
    """Those that lack replicas and are at rest otherwise, by priority and kind."""

    def __init__(self) -> None:
        self.levels: dict[int, dict[Kind, dict[str, Allotment]]] = {}
        self._entered: dict[str, tuple[int, Kind]] = {}
        self._missing: dict[str, int] = {}
        self._in_order: dict[str, int] | None = None  # the same by key, if nothing has changed since

    def add(self, allotment: Allotment) -> None:
        adapter = allotment.adapter
        kind = Kind(adapter.base_model, reach(adapter), adapter.rank, adapter.bytes)
        self.levels.setdefault(adapter.effective_priority, {}).setdefault(kind, {})[adapter.key] = allotment
        self._entered[adapter.key] = adapter.effective_priority, kind
        self._missing[adapter.key] = allotment.missing
        self._in_order = None

    def discard(self, key: str) -> None:
        entered = self._entered.pop(key, None)
        if entered is None:
            return
        priority, kind = entered
        kinds = self.levels[priority]
        del kinds[kind][key], self._missing[key]
        if not kinds[kind]:
            del kinds[kind]
            if not kinds:
                del self.levels[priority]
        self._in_order = None

    def missing(self, worked: Iterable[Allotment]) -> dict[str, int]:
        """How many replicas are missing, by key, of these and of those that a round has worked on."""
        if self._in_order is None:
            self._in_order = {key: self._missing[key] for key in sorted(self._missing)}
        others = {one.adapter.key: one.missing for one in worked}
        if not any(count or key in self._missing for key, count in others.items()):
            return self._in_order
        both = self._missing | others
        return {key: both[key] for key in sorted(both) if both[key] > 0}

    def up_to(self, most_bytes: Mapping[str, int]) -> Iterator[Allotment]:
        """Those that are not larger than this, by base model."""
        for kinds in self.levels.values():
            for kind, found in kinds.items():
                if kind.bytes <= most_bytes.get(kind.base_model, -1):
                    yield from found.values()

    def __iter__(self) -> Iterator[Allotment]:
        for kinds in self.levels.values():
            for found in kinds.values():
                yield from found.values()

    def wake(
        self,
        priority: int,
        others: Iterable[Allotment],
        pods: Sequence[PodLedger],
        lowest: int | None,
        *,
        anybody: bool = False,
    ) -> list[Allotment]:
        """Those of a priority that have a prospect, ranked together with others of that priority. `lowest`: the lowest
        priority that holds room, if that may be taken; `anybody`: whether everybody has a prospect."""
        kinds = self.levels[priority]
        possible = kinds if anybody else _possible(kinds, pods, lowest)
        # those that the round has changed have their turn anyway
        found = [one for kind in possible for one in kinds[kind].values() if not one.stirred]
        if not found:
            return found
        for one in others:
            _unrank(one)
        rank_by_worth([*found, *others], pods)
        roomy = _with_room(pods)
        if anybody or len(roomy) > FEW_PODS or (lowest is not None and lowest < priority):
            return found
        found.sort(key=lambda one: (bool(one.kept), one.order))
        left = AT_LEAST + PER_SLOT * sum([pod.slot_limit - pod.later_slots for pod in roomy])
        chosen: list[Allotment] = []
        for one in found:
            if left > 0 and any(_takes(pod, one) for pod in roomy):
                left -= 1
                chosen.append(one)
            else:
                _unrank(one)
        return chosen


def _possible(kinds: Iterable[Kind], pods: Sequence[PodLedger], lowest: int | None) -> list[Kind]:
    """Those that are not larger than what a pod of their base model has free, or could have."""
    most: dict[tuple[str, int | None], _Most] = {}
    found: list[Kind] = []
    for kind in kinds:
        which = kind.base_model, None if lowest is None or kind.reach <= lowest else kind.reach
        if which not in most:
            most[which] = _Most([pod for pod in pods if pod.target and pod.pod.base_model == which[0]], which[1])
        if kind.bytes <= most[which].bytes_for(kind.rank):
            found.append(kind)
    return found


class _Most:
    """The most memory that one of the pods has or could make free, by what rank it can serve."""

    def __init__(self, pods: Iterable[PodLedger], reach: int | None) -> None:
        by_rank: dict[int, int] = {}
        for pod in pods:
            slots, size = pod.slot_limit - pod.later_slots, pod.byte_limit - pod.later_bytes
            if reach is not None:
                more = pod.held_below(reach)
                slots, size = slots + more[0], size + more[1]
            if slots > 0 and size > by_rank.get(pod.pod.max_rank, -1):
                by_rank[pod.pod.max_rank] = size
        self._ranks = sorted(by_rank)
        self._bytes: list[int] = []
        largest = -1
        for rank in reversed(self._ranks):
            largest = max(largest, by_rank[rank])
            self._bytes.append(largest)
        self._bytes.reverse()

    def bytes_for(self, rank: int) -> int:
        place = bisect_left(self._ranks, rank)
        return self._bytes[place] if place < len(self._ranks) else -1


def _unrank(allotment: Allotment) -> None:
    allotment.order, allotment.scarce = order_of(allotment.adapter, allotment.share), False
    allotment.kind = 0


def _with_room(pods: Iterable[PodLedger]) -> list[PodLedger]:
    return [pod for pod in pods if pod.later_slots < pod.slot_limit and pod.target and pod.later_bytes < pod.byte_limit]


def _takes(pod: PodLedger, allotment: Allotment) -> bool:
    return (
        pod.later_bytes + allotment.adapter.bytes <= pod.byte_limit
        and pod.key in allotment.group.matching
        and pod.key not in allotment.kept
        and loadable(allotment.adapter, pod)
    )
