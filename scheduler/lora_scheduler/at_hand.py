"""Lets a replica that is to be loaded go where its files are already: elsewhere they have to be fetched, which may take
minutes.

Of the pods that have them, one with room, else one where adapters that nobody uses can make room; then likewise of the
other pods on the same nodes. Nothing that is used gives way for it, replicas stay as far apart as they would be
otherwise, and no pod gets more load for it than one that is about as loaded as the others are to be.
"""

from __future__ import annotations

from collections.abc import Iterable

from lora_scheduler.allotment import Allotment
from lora_scheduler.board import Board, choice_of, whereabouts
from lora_scheduler.filters import loadable
from lora_scheduler.fleet import Fleet
from lora_scheduler.ledger import PodLedger
from lora_scheduler.model import YIELDING
from lora_scheduler.preemption import Cost, cheapest, weaker

TOLERATED = 0.5  # a pod with the files may have this much more load than the mean will be
FREE = 4 * YIELDING, 0  # less than any price


class AtHand:
    """The files that are there when a round begins. To be asked for an adapter that lacks replicas."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._limits: dict[str, float] = {}  # by base model

    def choose(self, allotment: Allotment, board: Board, *, clear: bool) -> PodLedger | None:
        """The best pod of those that are nearest to the files; None if another is as good, or where all are too full.
        `clear`: whether adapters that nobody uses may make room there."""
        tiers = self._fleet.disks.nearest(allotment.adapter)
        first = next(tiers, None)
        if first is None or whereabouts(allotment)[0]:
            return None  # as for most adapters: nobody has the files, or an older version of it is being exchanged
        usual = board.choose(allotment)
        for tier in (first, *tiers):
            found = self._of_tier(allotment, sorted(tier), board, usual, clear)
            if found is not None:
                return found
        return None

    def _of_tier(
        self, allotment: Allotment, tier: Iterable[str], board: Board, usual: PodLedger | None, clear: bool
    ) -> PodLedger | None:
        adapter, topology_key = allotment.adapter, allotment.adapter.topology_key
        domains = choice_of(allotment, ()).domains
        limit = self._limit(adapter.base_model)
        most: int | None = None
        if usual is not None:
            limit, most = max(limit, usual.load), domains.get(usual.domain(topology_key), 0)
        found: list[tuple[tuple[int, Cost], PodLedger]] = []
        for pod in map(self._fleet.ledger, tier):
            crowd = domains.get(pod.domain(topology_key), 0)
            if (
                not pod.target
                or pod.load > limit
                or (most is not None and crowd > most)
                or pod.key not in allotment.group.matching
                or pod.key in allotment.kept
                or not loadable(adapter, pod)
            ):
                continue
            price = self._price(allotment, pod, clear)
            if price is not None:
                found.append(((crowd, price), pod))
        if not found:
            return None
        lowest = min([rating for rating, _ in found])
        return board.best(allotment, [pod for rating, pod in found if rating == lowest])

    def _price(self, allotment: Allotment, pod: PodLedger, clear: bool) -> Cost | None:
        slots, size = pod.shortage(allotment.bytes_on(pod.key))
        if slots <= 0 and size <= 0:
            return FREE
        lowest = pod.lowest_priority() if clear else None
        if lowest is None or lowest >= YIELDING:
            return None
        allotments = self._fleet.allotments
        return cheapest(weaker(pod, YIELDING, allotments), slots, size, allotments)

    def _limit(self, base_model: str) -> float:
        """The load up to which a pod is preferred for what is on its disk."""
        if base_model not in self._limits:
            pods = [pod for pod in self._fleet.pods if pod.target and pod.pod.base_model == base_model]
            coming = sum(
                [
                    one.share * max(one.needed - len(one.kept), 0)
                    for one in self._fleet.active
                    if one.adapter.base_model == base_model
                ]
            )
            mean = (sum([pod.load for pod in pods]) + coming) / max(len(pods), 1)
            self._limits[base_model] = mean * (1 + TOLERATED)
        return self._limits[base_model]
