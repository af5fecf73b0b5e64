"""How the requests that one engine finished divide among its adapters. Pure.

No counter of an engine carries an adapter's name, in no release: it counts finished requests, and says which sets of
adapters were busy and when each set was last. Two things follow from that, and the estimate takes both:

- By Little's law an adapter's requests are as its mean number of requests in the engine, which each look samples.
  That is good for an engine that is mostly busy.
- The time since an adapter was last busy is the shorter the more often it is asked for: one over its mean is a rate.
  That is good for an engine that is mostly idle, where hardly any look meets a request.

Where all adapters of an engine are busy all the time, nothing tells them apart, and each is given the same. A request
of one single token leaves no trace but the count, and goes to the base model's account.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from lora_operator.vllm.metrics import EngineMetrics

BASE = ""  # in place of an adapter's name: requests to the base model, and those that left no trace
FORGOTTEN = 1e-3  # looks' worth of memory below which an adapter is dropped
SHORTEST = 0.01  # of the time between two looks: no adapter was last busy less long ago than that


@dataclass(slots=True)
class _Trace:
    """Decaying sums over the looks at one engine: for one adapter, or (`looks` alone) for all of them."""

    busy: float = 0.0  # requests that were in the engine at a look
    seen: float = 0.0  # between how many looks it was busy at all
    waited: float = 0.0  # seconds since it was last busy, summed

    def fade(self, factor: float) -> None:
        self.busy *= factor
        self.seen *= factor
        self.waited *= factor


class Shares:
    """One life of one engine. Feed it every look in turn."""

    def __init__(self, half_life_seconds: float) -> None:
        self._half_life = half_life_seconds
        self._traces: dict[str, _Trace] = {}
        self._all = _Trace()
        self._at: float | None = None
        self._finished = 0.0
        self._newest = -math.inf  # by the engine's clock
        self._ahead = math.inf  # our clock less the engine's, at most

    def look(self, page: EngineMetrics, now: float) -> Mapping[str, float] | None:
        """Requests finished since the look before, by engine name and BASE; None at the first look.

        `now` is in seconds, by any clock that does not jump. A count that has become smaller began anew.
        """
        before, self._at = self._at, now
        count, self._finished = self._finished, page.requests_finished or 0.0
        last = self._last_busy(page, now)
        if before is None or now <= before:
            return None
        present = page.active_adapters if self._requests(page) else frozenset[str]()
        self._note(last, present, self._requests(page), now, now - before)
        finished = self._finished - count if self._finished >= count else self._finished
        return self._divide(finished, {*last, *present})

    @staticmethod
    def _requests(page: EngineMetrics) -> int:
        return (page.requests_running or 0) + (page.requests_waiting or 0)

    def _last_busy(self, page: EngineMetrics, now: float) -> dict[str, float]:
        """Adapters that were busy since the look before, and when last, by our clock."""
        fresh = [moment for moment in page.moments if moment.at > self._newest]
        if not fresh:
            return {}
        self._newest = max(moment.at for moment in fresh)
        # an engine says when a set was last busy, not what time it is: the smallest difference ever seen is the clocks'
        self._ahead = min(self._ahead, now - self._newest)
        last: dict[str, float] = {}
        for moment in fresh:
            for name in moment.adapters:
                last[name] = max(last.get(name, -math.inf), moment.at + self._ahead)
        return last

    def _note(
        self, last: Mapping[str, float], present: frozenset[str], requests: int, now: float, elapsed: float
    ) -> None:
        fading = 0.5 ** (elapsed / self._half_life)
        self._all.fade(fading)
        for trace in self._traces.values():
            trace.fade(fading)
        for name in {*last, *present} - self._traces.keys():
            # it has been waiting since the first look
            self._traces[name] = _Trace(waited=self._all.waited)
        for name, trace in self._traces.items():
            idle = min(now - last[name], elapsed) if name in last else elapsed
            trace.waited += 0.0 if name in present else max(idle, SHORTEST * elapsed)
            trace.seen += name in last or name in present
            trace.busy += requests / len(present) if name in present else 0.0
        self._all.seen += 1
        self._all.waited += elapsed
        self._all.busy += requests
        for name in [name for name, trace in self._traces.items() if trace.seen < FORGOTTEN]:
            del self._traces[name]

    def _divide(self, finished: float, names: set[str]) -> Mapping[str, float]:
        """Among those that were busy in between: what was not seen had none."""
        if not names:
            return {BASE: finished}
        base = max(self._all.busy - sum(trace.busy for trace in self._traces.values()), 0.0)
        traces = {name: self._traces[name] for name in names}
        by_rate = {name: t.seen / max(t.waited, SHORTEST * self._all.waited) for name, t in traces.items()}
        by_busy = {name: t.busy for name, t in traces.items()} | {BASE: base}
        busyness = min(1.0, self._all.busy / self._all.seen)
        parts = {
            name: busyness * _part(by_busy, name) + (1 - busyness) * _part(by_rate, name) for name in {*names, BASE}
        }
        total = sum(parts.values())
        return {name: finished * part / total for name, part in parts.items() if part > 0}


def _part(weights: Mapping[str, float], name: str) -> float:
    total = sum(weights.values())
    return weights.get(name, 0.0) / total if total > 0 else 0.0
