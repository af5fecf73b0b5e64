"""An engine in virtual time, step by step: continuous batches, chunked prefill, a prefix cache, loads of adapters.

The costs are of the size that a model of 8 billion parameters has on one GPU of 80 GB. They are assumed, not measured:
they set the scale, and all policies are compared under the same.
"""

from __future__ import annotations

import heapq
from collections import Counter, OrderedDict, deque
from dataclasses import dataclass, field

from bench.gateway.chats import BLOCK_TOKENS


@dataclass(frozen=True, slots=True)
class Costs:
    """Seconds: of a step, of each sequence in it, of each token that is computed. `load_seconds`: an adapter from the
    node's disk, during which the engine stands still."""

    step: float = 0.010
    sequence: float = 0.0001
    token: float = 1 / 12_000
    load_seconds: float = 0.03
    budget: int = 2048  # tokens computed in one step
    batch: int = 128
    adapters_in_batch: int = 32
    adapters_held: int = 128
    cache_blocks: int = 350_000 // BLOCK_TOKENS


@dataclass(slots=True, eq=False)
class Turn:
    """A request. `left`: tokens of its prompt that are still to be computed."""

    at: float
    adapter: int
    blocks: list[int]
    tokens: int
    answer: int
    chat: int
    left: int = 0
    cached: int = 0
    first_token_at: float = 0.0


@dataclass(slots=True)
class Engine:
    """`busy_until`: the end of the step it is in; None while it has nothing to do."""

    costs: Costs
    held: OrderedDict[int, None] = field(default_factory=OrderedDict)
    cache: OrderedDict[int, None] = field(default_factory=OrderedDict)
    waiting: deque[Turn] = field(default_factory=deque)
    computing: deque[Turn] = field(default_factory=deque)
    answering: list[tuple[int, int, Turn]] = field(default_factory=list)  # (at the end of which step, number, turn)
    active: Counter[int] = field(default_factory=Counter)
    loads: int = 0
    steps: int = 0
    busy_until: float | None = None
    _stalled: float = 0.0
    _number: int = 0
    _ended: list[Turn] = field(default_factory=list)

    @property
    def requests(self) -> int:
        return len(self.waiting) + len(self.computing) + len(self.answering)

    def take(self, turn: Turn) -> None:
        """A request comes in."""
        if turn.adapter not in self.held:
            self.loads += 1
            self._stalled += self.costs.load_seconds
            if len(self.held) >= self.costs.adapters_held:
                self.held.popitem(last=False)
        self.held[turn.adapter] = None
        self.held.move_to_end(turn.adapter)
        self.waiting.append(turn)

    def begin(self, now: float) -> float | None:
        """The next step; when it ends, or None if there is nothing to do."""
        self._admit()
        if not self.computing and not self.answering:
            self.busy_until = None
            return None
        budget = computed = max(0, self.costs.budget - len(self.answering))
        for turn in self.computing:
            now_computed = min(budget, turn.left)
            turn.left -= now_computed
            budget -= now_computed
            if not budget:
                break
        costs = self.costs
        seconds = costs.step + costs.sequence * len(self.answering) + costs.token * (computed - budget) + self._stalled
        self._stalled = 0.0
        self.busy_until = now + seconds
        return self.busy_until

    def end(self, now: float) -> list[Turn]:
        """Of the step; the requests that have their whole answer."""
        self.steps += 1
        while self.computing and not self.computing[0].left:
            turn = self.computing.popleft()
            turn.first_token_at = now
            self._keep(turn)
            self._number += 1
            heapq.heappush(self.answering, (self.steps + turn.answer - 1, self._number, turn))
        ended = []
        while self.answering and self.answering[0][0] <= self.steps:
            turn = heapq.heappop(self.answering)[2]
            self.active[turn.adapter] -= 1
            if not self.active[turn.adapter]:
                del self.active[turn.adapter]
            ended.append(turn)
        return ended

    def _admit(self) -> None:
        """In order, but those pass whose adapter is in the batch already."""
        costs, left = self.costs, deque[Turn]()
        pending = sum(turn.left for turn in self.computing)
        while self.waiting and len(self.computing) + len(self.answering) < costs.batch and pending < costs.budget:
            turn = self.waiting.popleft()
            if turn.adapter not in self.active and len(self.active) >= costs.adapters_in_batch:
                left.append(turn)
                continue
            self.active[turn.adapter] += 1
            turn.cached = self._cached(turn)
            turn.left = max(1, turn.tokens - turn.cached * BLOCK_TOKENS)
            pending += turn.left
            self.computing.append(turn)
        self.waiting = left + self.waiting

    def _cached(self, turn: Turn) -> int:
        count = 0
        for block in turn.blocks:
            key = hash((turn.adapter, block))
            if key not in self.cache:
                break
            self.cache.move_to_end(key)
            count += 1
        return count

    def _keep(self, turn: Turn) -> None:
        for block in reversed(turn.blocks):  # what comes last goes first
            key = hash((turn.adapter, block))
            self.cache[key] = None
            self.cache.move_to_end(key)
        while len(self.cache) > self.costs.cache_blocks:
            self.cache.popitem(last=False)
