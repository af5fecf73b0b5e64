"""Which pods of a group have the most free memory, kept up to date while replicas change places."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Sequence

from lora_scheduler.allotment import Group
from lora_scheduler.balance.shifting import free_bytes, free_slots
from lora_scheduler.ledger import PodLedger

Entry = tuple[int, str, PodLedger]


class Roominess:
    """The pods of one group that can take loads: those with a free slot, and those whose slots are just all taken; each
    with the most free memory first, and of equal ones by key."""

    def __init__(self, targets: Iterable[PodLedger]) -> None:
        self.free_slots = self.free_bytes = 0  # of all pods together
        self._lines: tuple[list[Entry], list[Entry]] = [], []  # without and with a free slot
        self._known: dict[str, tuple[int, int]] = {}  # (free slots, free bytes) as they are in the lines
        for pod in targets:
            line = self._count(pod)
            if line is not None:
                line.append((-free_bytes(pod), pod.key, pod))
        for line in self._lines:
            line.sort()

    def _count(self, pod: PodLedger) -> list[Entry] | None:
        """Take in what is free on the pod; the line where it belongs."""
        slots, size = self._known[pod.key] = free_slots(pod), free_bytes(pod)
        self.free_slots += max(slots, 0)
        self.free_bytes += max(size, 0)
        return self._lines[slots > 0] if slots >= 0 else None

    def changed(self, pod: PodLedger) -> None:
        """Replicas have come or gone."""
        known = self._known.get(pod.key)
        if known is None or known == (free_slots(pod), free_bytes(pod)):
            return
        slots, size = known
        self.free_slots -= max(slots, 0)
        self.free_bytes -= max(size, 0)
        if slots >= 0:
            line = self._lines[slots > 0]
            del line[bisect_left(line, (-size, pod.key))]
        now = self._count(pod)
        if now is not None:
            insort(now, (-free_bytes(pod), pod.key, pod))

    def open(self) -> Iterator[PodLedger]:
        """The pods with a free slot."""
        return (pod for _, _, pod in self._lines[True])

    def most(self, count: int, besides: PodLedger) -> list[PodLedger]:
        """So many pods with the most free memory, whether they have a free slot or not, one left out."""
        both = sorted([*self._lines[False][: count + 1], *self._lines[True][: count + 1]])
        return [pod for _, _, pod in both if pod is not besides][:count]

    def by_shortage(self) -> Iterator[PodLedger]:
        """All pods: those with a free slot first."""
        for line in (self._lines[True], self._lines[False]):
            yield from [pod for _, _, pod in line]


class Rooms:
    """The pods of several groups."""

    def __init__(self) -> None:
        self._of: dict[int, Roominess] = {}

    def of(self, group: Group) -> Roominess:
        found = self._of.get(id(group))
        if found is None:
            found = self._of[id(group)] = Roominess(group.targets)
        return found

    def changed(self, pods: Sequence[PodLedger]) -> None:
        """Replicas have come to these pods, or gone."""
        for rooms in self._of.values():
            for pod in pods:
                rooms.changed(pod)
