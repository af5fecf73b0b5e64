"""Makes room for an adapter that fits nowhere although there is room in all: replicas that have not begun change
places.

Room in pieces is brought together on one pod: a replica there moves to where there is room for it, or a large one
changes places with a small one, until the adapter fits.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby, islice
from operator import attrgetter

from lora_scheduler.allotment import Allotment
from lora_scheduler.balance.roominess import Roominess, Rooms
from lora_scheduler.balance.shifting import Shifting, free_bytes, free_slots, may_hold
from lora_scheduler.ledger import PodLedger, Replica
from lora_scheduler.model import Adapter
from lora_scheduler.placement import allot
from lora_scheduler.steps import start

PODS_TRIED = 16  # pods on which room is made, for one replica
PARTNERS = 16  # pods that take something over
MUCH = 8  # new loads on more than one of so many pods
STEPS = 8  # replicas moved to make room on one pod


@dataclass(frozen=True, slots=True)
class _Step:
    """A replica that leaves the pod, where to, and which one comes in exchange."""

    replica: Replica
    pod: PodLedger
    other: Replica | None = None


def pack(lacking: list[Allotment], shifting: Shifting, waiting: Iterable[Allotment]) -> None:
    """Find places for adapters that lack replicas, in this order; of one priority, for first replicas first. Where much
    is new, also for those `waiting` ones that no pod has room for as it is."""
    begun = {replica.ledger.key for replica in shifting.steps.begun()}  # the pods that something can leave
    if not begun:
        return
    if len(begun) * MUCH > len(shifting.fleet.pods):
        lacking = sorted({*lacking, *(one for one in waiting if not one.moving)}, key=attrgetter("order"))
    packing = _Packing(shifting, begun)
    for _, level in groupby(lacking, key=lambda allotment: -allotment.adapter.effective_priority):
        line = list(level)
        for allotment in line:
            packing.serve(allotment, 1)
        for allotment in line:
            packing.serve(allotment, allotment.needed)


class _Packing:
    """What is known of the pods while they are packed. `begun` are the keys of those that something can leave."""

    def __init__(self, shifting: Shifting, begun: set[str]) -> None:
        self._shifting = shifting
        self._begun = begun
        self._rooms = Rooms()
        self._hopeless: dict[tuple[int, int], int] = {}  # by group and rank: the size from which on all is in vain

    def serve(self, allotment: Allotment, wanted: int) -> None:
        """Give the adapter up to so many replicas."""
        kind, size = (id(allotment.group), allotment.adapter.rank), allotment.adapter.bytes
        while len(allotment.kept) < wanted and allotment.missing > 0 and size < self._hopeless.get(kind, size + 1):
            pod = self._make_room(allotment)
            if pod is None and not allotment.kept:
                pod = self._take_over(allotment)
            if pod is None:
                self._hopeless[kind] = size
                return
            self._begun.add(pod.key)
            allot(allotment, pod)
            start(allotment, self._shifting.fleet, self._shifting.steps)
            self._rooms.changed([pod])

    def _make_room(self, allotment: Allotment) -> PodLedger | None:
        size = allotment.adapter.bytes
        rooms = self._rooms.of(allotment.group)
        if rooms.free_slots < 1 or rooms.free_bytes < size:
            return None
        possible = (pod for pod in rooms.by_shortage() if pod.key in self._begun and may_hold(allotment, pod))
        for pod in list(islice(possible, PODS_TRIED)):
            if self._free_up(pod, allotment.adapter, rooms):
                return pod
        return None

    def _take_over(self, allotment: Allotment) -> PodLedger | None:
        """The pod where a second replica of the same priority, that has not begun either, leaves enough room."""
        size, priority = allotment.adapter.bytes, allotment.adapter.effective_priority
        allotments = self._shifting.fleet.allotments
        enough = [
            replica
            for pod in allotment.group.targets
            if may_hold(allotment, pod)
            for replica in self._shifting.movable(pod)
            if replica.adapter.effective_priority == priority
            and free_bytes(pod) + replica.bytes >= size
            and _has_seconds(allotments[replica.adapter.key])
        ]
        if not enough:
            return None
        replica = min(enough, key=lambda replica: (replica.share, replica.adapter.key, replica.ledger.key))
        pod = replica.ledger
        self._shifting.cancel(replica)
        return pod

    def _free_up(self, pod: PodLedger, adapter: Adapter, rooms: Roominess) -> bool:
        for_bytes, steps = adapter.bytes, STEPS
        while steps > 0 and not _fits(pod, for_bytes):
            steps -= 1
            needed = for_bytes - free_bytes(pod)
            step = self._best_exchange(pod, adapter, needed, rooms) if free_slots(pod) > 0 else None
            step = step or self._best_move(pod, needed, rooms)
            if step is None:
                return False
            self._begun.add(step.pod.key)
            if step.other is None:
                self._shifting.shift(step.replica, step.pod)
            else:
                self._shifting.swap(step.replica, step.other)
            self._rooms.changed([pod, step.pod])
        return _fits(pod, for_bytes)

    def _best_move(self, pod: PodLedger, needed: int, rooms: Roominess) -> _Step | None:
        """The smallest replica that frees enough, or else the largest, that another pod has room for."""
        partners = list(islice((other for other in rooms.open() if other is not pod), PARTNERS))
        if not partners:
            return None
        for replica in sorted(self._shifting.movable(pod), key=lambda c: _by_gain(c.bytes, needed)):
            for other in partners:
                if free_bytes(other) < replica.bytes:
                    break  # the next ones have less
                if self._shifting.may_go(replica, other):
                    return _Step(replica, other)
        return None

    def _best_exchange(self, pod: PodLedger, adapter: Adapter, needed: int, rooms: Roominess) -> _Step | None:
        """The pair of replicas the exchange of which frees just enough, or else the most."""
        replicas = [(replica.bytes, replica.share, replica) for replica in self._shifting.movable(pod)]
        best: _Step | None = None
        least: tuple[bool, int] = (True, 1)  # worse than whatever there is
        rated: tuple[float, str, str] = (0.0, "", "")
        for other in rooms.most(PARTNERS, pod) if replicas else ():
            room = free_bytes(other)
            for incoming in other.replicas.values():
                if not incoming.begun or incoming.adapter.name == adapter.name:
                    continue  # an engine has a name only once
                size, share = incoming.bytes, incoming.share
                for replica_bytes, replica_share, replica in replicas:
                    gain = replica_bytes - size
                    if not 0 < gain <= room:
                        continue
                    order = _by_gain(gain, needed)
                    if order > least:
                        continue
                    rating = abs(replica_share - share), replica.adapter.key, incoming.adapter.key
                    if (
                        (order < least or rating < rated)
                        and self._shifting.may_go(replica, other)
                        and self._shifting.may_go(incoming, pod)
                    ):
                        best, least, rated = _Step(replica, other, incoming), order, rating
        return best


def _has_seconds(allotment: Allotment) -> bool:
    """Whether it could do with a replica less, and nothing is under way with it."""
    return len(allotment.kept) > 1 and not (allotment.everywhere or allotment.moving or allotment.pending)


def _fits(pod: PodLedger, size: int) -> bool:
    return free_slots(pod) > 0 and free_bytes(pod) >= size


def _by_gain(gain: int, needed: int) -> tuple[bool, int]:
    """Smaller is better: what frees enough before what does not, then what comes nearest."""
    return gain < needed, gain if gain >= needed else -gain
