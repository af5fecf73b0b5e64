"""How even the loads of the pods of one base model are, and which pods are the least loaded."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Container, Iterable, Iterator, Sequence
from itertools import takewhile

from lora_scheduler.balance.shifting import free_slots
from lora_scheduler.ledger import PodLedger

PODS_TRIED = 100  # least loaded ones that a replica is offered to


class Loads:
    """The pods of one base model that requests go to, least loaded first."""

    def __init__(self, pods: Sequence[PodLedger]) -> None:
        self.pods = pods
        self._line = sorted([(pod.load, pod.key, pod) for pod in pods])
        self._open = [entry for entry in self._line if free_slots(entry[2]) > 0]
        mean = sum([pod.load for pod in pods]) / len(pods)
        # a replica cannot be divided: where one is larger than the mean load, nothing below it can be reached
        largest = max([pod.largest_share() for pod in self.above(mean)], default=0.0)
        self.ideal = max(mean, largest)

    def above(self, limit: float) -> list[PodLedger]:
        """The pods with a larger load, largest first."""
        return [pod for _, _, pod in reversed(self._line[bisect_left(self._line, (limit, "\uffff")) :])]

    def hottest(self, limit: float, except_for: Container[str]) -> PodLedger | None:
        """The pod with the largest load above the limit, some (by key) left out."""
        above = takewhile(lambda entry: entry[0] > limit, reversed(self._line))
        return next((pod for _, key, pod in above if key not in except_for), None)

    def least(self) -> Iterator[PodLedger]:
        """All pods, least loaded first."""
        return (pod for _, _, pod in self._line)

    def least_with_a_slot(self) -> Iterator[PodLedger]:
        """The pods that have a free slot, least loaded first."""
        return (pod for _, _, pod in self._open)

    def cooler(self, limit: float, *, full: bool = False) -> list[PodLedger]:
        """The pods whose load is not above the limit, least loaded first; no more than some. Only those that have a
        free slot, unless `full` ones count too."""
        line = (self._line if full else self._open)[:PODS_TRIED]
        return [pod for load, _, pod in line if load <= limit]

    def shifted(self, pods: Iterable[tuple[float, PodLedger]]) -> None:
        """The loads of these pods have changed from what is given with them."""
        for load, pod in pods:
            del self._line[bisect_left(self._line, (load, pod.key))]
            insort(self._line, (pod.load, pod.key, pod))
            place = bisect_left(self._open, (load, pod.key))
            if place < len(self._open) and self._open[place][2] is pod:
                del self._open[place]
            if free_slots(pod) > 0:
                insort(self._open, (pod.load, pod.key, pod))


def by_base_model(pods: Iterable[PodLedger]) -> dict[str, list[PodLedger]]:
    """The pods that requests go to."""
    found: dict[str, list[PodLedger]] = {}
    for pod in pods:
        if pod.sends:
            found.setdefault(pod.pod.base_model, []).append(pod)
    return found
