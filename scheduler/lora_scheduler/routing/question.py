"""One request, with what a policy needs to know for it: which pods may be the answer, and how busy they are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from lora_scheduler.routing.chance import Chance, draw
from lora_scheduler.routing.index import EMPTY, Index
from lora_scheduler.routing.model import RoutingRequest
from lora_scheduler.routing.pool import Pool
from lora_scheduler.routing.rules import Rules
from lora_scheduler.routing.scoring import Score, score_of
from lora_scheduler.routing.slots import Members, Slot


class Choice(NamedTuple):
    """A policy's answer. `spill`: where another replica should go."""

    slot: Slot
    spill: Slot | None = None
    score: float = 0.0


class Question:
    """`holders`: pods that may be the answer and hold all that is asked for; none without it may be, while there are
    any, unless the request may load."""

    __slots__ = ("_chance", "ask", "holders", "index", "now", "pool", "rules")

    def __init__(
        self, index: Index, ask: RoutingRequest, rules: Rules, pool: Pool, now: float, chance: Chance | None
    ) -> None:
        pool.refresh(now)
        self.index, self.ask, self.rules, self.pool, self.now, self._chance = index, ask, rules, pool, now, chance
        self.holders = self._holders()

    @property
    def chance(self) -> Chance:
        assert self._chance is not None  # it is for explaining, which draws nothing
        return self._chance

    def draw(self, slots: Sequence[Slot], count: int) -> Sequence[Slot]:
        return draw(slots, count, self.chance)

    def load(self, slot: Slot) -> float:
        """Requests there, as far as one can tell."""
        return self.pool.load(slot, self.now)

    def mean(self) -> float:
        """Of all pods of this base model."""
        return self.pool.mean(self.now)

    def score(self, slot: Slot, mean: float) -> Score:
        """By the weights. `mean`: what counts as one pod's usual load."""
        ask = self.ask
        return score_of(
            ask, slot.held, self.rules.weights, place=slot.batches(ask.adapters),
            cached=ask.cached.get(slot.pod, 0.0) if ask.cached else 0.0, busy=self.load(slot) / mean,
        )  # fmt: skip

    def least(self, slots: Iterable[Slot]) -> tuple[Slot, float]:
        """The best of some, and its load: first those whose next batch has a place for the adapter, then by load, then
        by cache use, then the one that was drawn first."""
        adapters, pool, now = self.ask.adapters, self.pool, self.now
        best, best_crowded, lowest = None, True, 0.0
        for slot in slots:
            crowded, load = not slot.batches(adapters), pool.load(slot, now)
            if best is not None:
                if crowded is not best_crowded:
                    if crowded:
                        continue
                elif load > lowest or (load == lowest and slot.cache_usage >= best.cache_usage):
                    continue
            best, best_crowded, lowest = slot, crowded, load
        assert best is not None
        return best, lowest

    def cheapest(self, found: tuple[Slot, float], bound: float) -> tuple[Slot, float]:
        """The holder where a prompt costs least, waiting included, and its load: one that is within `bound` and whose
        next batch has a place, or `found` (a holder and its load)."""
        ask, worth = self.ask, self.rules.prefix
        cached = ask.cached or {}
        best, cost = found, found[1] - worth * cached.get(found[0].pod, 0.0)
        for pod, saved in cached.items():
            slot = self.index.slot(pod)
            if slot is None or slot is found[0] or self.missing(slot) or not self.allowed((slot,)):
                continue
            load = self.load(slot)
            if load <= bound and load - worth * saved < cost and slot.batches(ask.adapters):
                best, cost = (slot, load), load - worth * saved
        return best

    def missing(self, slot: Slot) -> tuple[str, ...]:
        """What would have to be loaded there."""
        return tuple([adapter for adapter in self.ask.adapters if adapter not in slot.held])

    def fits(self, slot: Slot) -> bool:
        """Whether it holds all, or has room for what it does not."""
        return len(self.missing(slot)) <= slot.endpoint.room

    def allowed(self, slots: Sequence[Slot]) -> Sequence[Slot]:
        """Those of them that the request does not rule out."""
        ask = self.ask
        if not ask.avoid and ask.among is None:
            return slots
        return [s for s in slots if s.pod not in ask.avoid and (ask.among is None or s.pod in ask.among)]

    def able(self, count: int) -> Sequence[Slot]:
        """Some pods that could be given what they lack, at most `count`: where it is on its way already, else where a
        slot is free, else where one can be made."""
        return self.coming(count) or self.roomy(count)

    def coming(self, count: int) -> Sequence[Slot]:
        """Some pods where the adapter is on its way; several adapters at once are not looked for."""
        if len(self.ask.adapters) != 1:
            return EMPTY
        return self.draw(self.allowed(self.index.loading(self.ask.adapters[0])), count)

    def roomy(self, count: int) -> Sequence[Slot]:
        """As `able`, and without what is on its way."""
        for members in (self.pool.free, self.pool.evictable):
            found = [slot for slot in self._some(members, count) if 0 < len(self.missing(slot)) <= slot.endpoint.room]
            if found:
                return found
        return EMPTY

    def anywhere(self, count: int) -> Sequence[Slot]:
        """Some pods out of all, which hold the adapters or could be given them, at most `count`."""
        return [slot for slot in self._some(self.pool.serving, count) if self.fits(slot)]

    def _some(self, members: Members, count: int) -> Sequence[Slot]:
        return self.draw(self.allowed(members.slots), count)

    def _holders(self) -> Sequence[Slot]:
        adapters = self.ask.adapters
        if not adapters:
            return self.allowed(self.pool.serving.slots)
        if len(adapters) == 1:
            return self.allowed(self.index.holding(adapters[0]))
        fewest = min((self.index.holding(adapter) for adapter in adapters), key=len)
        return self.allowed([slot for slot in fewest if not self.missing(slot)])
