"""The pods of one base model, and how busy they are on the average, without ever looking at all of them."""

from __future__ import annotations

import heapq
import math

from lora_scheduler.routing.model import EngineLoad
from lora_scheduler.routing.slots import Members, Slot


class Pool:
    """Only pods that take requests are members.

    A pod's load is what its metrics say, while they are fresh, and what was sent there since. Where they are not, the
    mean of the others stands in: such a pod is neither shunned nor flooded. What was sent fades with a half-life, as
    nobody says when it ends and as metrics may never come again. It fades for all at the same rate, so that the sum
    over all pods can be kept as one number.
    """

    __slots__ = (
        "_ages",
        "_known",
        "_mean_known",
        "_rate",
        "_requests",
        "_sent",
        "_sent_at",
        "_stale",
        "_turn",
        "evictable",
        "free",
        "serving",
    )

    def __init__(self, stale_seconds: float, half_life_seconds: float) -> None:
        self.serving = Members()
        self.free = Members()  # have a free slot
        self.evictable = Members()  # have none, and may make one
        self._stale = stale_seconds
        self._rate = math.log(2) / half_life_seconds
        self._ages: list[tuple[float, int, EngineLoad, Slot]] = []  # a heap: what goes stale next
        self._turn = 0  # keeps the heap from comparing slots
        self._known = 0
        self._mean_known = 0.0  # as of the last refresh
        self._requests = 0
        self._sent = 0.0
        self._sent_at = 0.0

    def join(self, slot: Slot, now: float) -> None:
        self.serving.add(slot)
        if slot.endpoint.free_slots:
            self.free.add(slot)
        elif slot.endpoint.room:
            self.evictable.add(slot)
        self._add_sent(slot, 0.0, now)
        self._change_sent(slot.sent, now)
        self._count(slot)

    def leave(self, slot: Slot, now: float) -> None:
        for members in (self.serving, self.free, self.evictable):
            members.discard(slot)
        self._uncount(slot)
        self._add_sent(slot, 0.0, now)
        self._change_sent(-slot.sent, now)

    def observe(self, slot: Slot, load: EngineLoad, now: float) -> None:
        """Metrics of a member: what was sent before is in them."""
        self.refresh(now)  # also where nobody picks for hours
        self._uncount(slot)
        self._add_sent(slot, 0.0, now)
        self._change_sent(-slot.sent, now)
        slot.sent = 0.0
        slot.observe(load)
        self._count(slot)

    def sent(self, slot: Slot, now: float) -> None:
        """A request goes there."""
        self._add_sent(slot, 1.0, now)
        self._change_sent(1.0, now)

    def done(self, slot: Slot, now: float) -> None:
        """One has ended: one of those that were sent since the metrics were taken, or else one of those in them."""
        self._add_sent(slot, 0.0, now)
        less = min(1.0, slot.sent)
        slot.sent -= less
        self._change_sent(-less, now)
        if less < 0.5 and slot.counted and slot.requests:
            slot.requests -= 1
            self._requests -= 1

    def refresh(self, now: float) -> None:
        """Forget what has gone stale. Whoever reads loads calls this first."""
        while self._ages and self._ages[0][0] + self._stale < now:
            _, _, load, slot = heapq.heappop(self._ages)
            if slot.load is load:
                self._uncount(slot)
        self._mean_known = self._requests / self._known if self._known else 0.0

    def mean(self, now: float) -> float:
        """Requests per pod."""
        everyone = len(self.serving)
        return self._mean_known + (self._faded(self._sent, self._sent_at, now) / everyone if everyone else 0.0)

    def load(self, slot: Slot, now: float) -> float:
        """Requests there, as far as one can tell."""
        known = slot.requests if slot.counted else self._mean_known
        return known + self._faded(slot.sent, slot.sent_at, now) if slot.sent else known

    def _faded(self, sent: float, at: float, now: float) -> float:
        return sent * math.exp((at - now) * self._rate) if now > at else sent

    def _add_sent(self, slot: Slot, more: float, now: float) -> None:
        slot.sent = self._faded(slot.sent, slot.sent_at, now) + more
        slot.sent_at = max(now, slot.sent_at)

    def _change_sent(self, more: float, now: float) -> None:
        self._sent = max(0.0, self._faded(self._sent, self._sent_at, now) + more)
        self._sent_at = max(now, self._sent_at)

    def _count(self, slot: Slot) -> None:
        load = slot.load
        if load is None:
            return
        self._turn += 1
        heapq.heappush(self._ages, (load.at, self._turn, load, slot))
        slot.fresh = True
        if load.requests is not None:
            slot.counted = True
            self._known += 1
            self._requests += slot.requests

    def _uncount(self, slot: Slot) -> None:
        slot.fresh = False
        if slot.counted:
            slot.counted = False
            self._known -= 1
            self._requests -= slot.requests
