"""A simulated engine: a batch, adapter places in it, adapters in host memory, and loads during which all stands still.

What it leaves out: requests in one batch do not slow each other down, and prompts and caches cost nothing.
"""

from __future__ import annotations

import math
from collections import Counter, OrderedDict, deque
from dataclasses import dataclass, field

from bench.routing.demand import Request
from lora_scheduler.routing import Endpoint, EngineLoad, Holding, HoldingState


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one engine. `load_seconds`: how long a load takes, and holds everything up."""

    batch: int = 16
    gpu_slots: int = 8
    host_slots: int = 16
    load_seconds: float = 0.2


@dataclass(slots=True)
class Engine:
    """Time is passed in and never goes back. `started` are (request, when it was first served)."""

    pod: str
    limits: Limits
    resident: OrderedDict[str, None] = field(default_factory=OrderedDict)  # the least recently used first
    loading: dict[str, float] = field(default_factory=dict)  # until when
    wanting: deque[str] = field(default_factory=deque)  # loads that nothing could make room for yet
    for_load: dict[str, list[Request]] = field(default_factory=dict)
    waiting: deque[Request] = field(default_factory=deque)
    running: list[tuple[float, Request]] = field(default_factory=list)  # served until, by the engine's own clock
    present: Counter[str] = field(default_factory=Counter)  # requests by adapter, however far
    begun: list[tuple[Request, float]] = field(default_factory=list)
    loads: int = 0
    request_seconds: float = 0.0  # requests present, summed up over time
    stalled_seconds: float = 0.0
    now: float = 0.0
    _clock: float = 0.0
    _stalled_until: float = 0.0

    def next_event(self) -> float:
        """When something happens by itself; infinite if nothing does."""
        ends = min((end for end, _ in self.running), default=math.inf)
        served = max(self.now, self._stalled_until) + max(0.0, ends - self._clock)
        return min(min(self.loading.values(), default=math.inf), served)

    def pass_time(self, now: float) -> bool:
        """Let everything happen until then. Whether what it holds has changed."""
        changed = False
        while (event := self.next_event()) <= now:
            self._move_clock(event)
            changed |= self._happen()
        self._move_clock(now)
        return changed

    def take(self, request: Request) -> bool:
        """A request comes in, now. Whether what it holds, or will hold, has changed."""
        self.present[request.adapter] += 1
        if request.adapter in self.resident:
            self.waiting.append(request)
            self._admit()
            return False
        self.for_load.setdefault(request.adapter, []).append(request)
        if request.adapter in self.loading or request.adapter in self.wanting:
            return False
        self.wanting.append(request.adapter)
        return self._begin_loads()

    @property
    def requests(self) -> int:
        return self.present.total()

    def endpoint(self) -> Endpoint:
        """As the operator would describe it."""
        holdings = [Holding(name, name) for name in self.resident]
        holdings += [Holding(name, name, HoldingState.LOADING) for name in self.loading]
        idle = sum(1 for name in self.resident if not self.present[name])
        return Endpoint(
            self.pod, self.pod, "llama", tuple(holdings), host_slots=self.limits.host_slots,
            gpu_slots=self.limits.gpu_slots, evictable=idle,
        )  # fmt: skip

    def metrics(self) -> EngineLoad:
        """As the engine tells; requests that wait for a load have not reached it."""
        active = {request.adapter for _, request in self.running} | {request.adapter for request in self.waiting}
        return EngineLoad(
            self.now, running=len(self.running), waiting=len(self.waiting),
            running_adapters=frozenset(active), max_loras=self.limits.gpu_slots,
        )  # fmt: skip

    def _move_clock(self, now: float) -> None:
        self._clock += max(0.0, now - max(self.now, self._stalled_until))
        self.request_seconds += self.requests * (now - self.now)
        self.now = now

    def _happen(self) -> bool:
        for _, request in (done := [one for one in self.running if one[0] <= self._clock + 1e-9]):
            self.present[request.adapter] -= 1
        if done:
            self.running = [one for one in self.running if one[0] > self._clock + 1e-9]
        loaded = [name for name, until in self.loading.items() if until <= self.now]
        for name in loaded:
            del self.loading[name]
            self.resident[name] = None
            self.waiting.extend(self.for_load.pop(name))
        begun = self._begin_loads()
        self._admit()
        return bool(loaded) or begun

    def _begin_loads(self) -> bool:
        """One after the other; room is made by what nobody has asked for longest."""
        begun = False
        while self.wanting:
            if len(self.resident) + len(self.loading) >= self.limits.host_slots:
                idle = next((name for name in self.resident if not self.present[name]), None)
                if idle is None:
                    break
                del self.resident[idle]
            name = self.wanting.popleft()
            self._stalled_until = max(self.now, self._stalled_until) + self.limits.load_seconds
            self.loading[name] = self._stalled_until
            self.stalled_seconds += self.limits.load_seconds
            self.loads += 1
            begun = True
        return begun

    def _admit(self) -> None:
        """First come, first served, but those pass that need no further place in the batch."""
        active = {request.adapter for _, request in self.running}
        left: deque[Request] = deque()
        while self.waiting and len(self.running) < self.limits.batch:
            request = self.waiting.popleft()
            if request.adapter not in active and len(active) >= self.limits.gpu_slots:
                left.append(request)
                continue
            active.add(request.adapter)
            self.resident.move_to_end(request.adapter)
            self.running.append((self._clock + request.seconds, request))
            self.begun.append((request, max(self.now, self._stalled_until)))
        self.waiting = left + self.waiting
