"""How the requests that one engine finished divide among its adapters. Pure.

No counter of an engine carries an adapter's name, in no release: it counts finished requests, and says which sets of
adapters were busy and when each set was last. Two estimates follow from that, and the busier the engine is, the more
the first counts:

- By Little's law an adapter's requests are as its mean number of requests in the engine. Requests that come at random
  leave it without any at a look with the probability exp(-mean), so that the looks that miss it tell the mean. Those
  that are never missed share what is left of the engine's whole.
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
ALWAYS = 2.0  # mean number of requests from which hardly any look misses an adapter
FORGOTTEN = 1e-3  # looks' worth of memory below which an adapter is dropped
NANOSECOND = 1e-9  # no time at all has passed between two looks of one moment
SHORTEST = 0.01  # of the time between two looks: no adapter was last busy less long ago than that


@dataclass(slots=True)
class _Trace:
    """Fading sums over the looks at one engine, for one adapter."""

    met: float = 0.0  # looks at which it was busy
    seen: float = 0.0  # looks before which it was busy since the look before
    waited: float = 0.0  # seconds since it was last busy

    def fade(self, factor: float) -> None:
        self.met *= factor
        self.seen *= factor
        self.waited *= factor


class Shares:
    """One life of one engine. Feed it every look in turn."""

    def __init__(self, half_life_seconds: float) -> None:
        self._half_life = half_life_seconds
        self._traces: dict[str, _Trace] = {}
        self._looks = 0.0
        self._requests = 0.0  # that were in the engine, summed over the looks
        self._seconds = 0.0
        self._at: float | None = None
        self._finished = 0.0
        self._newest = -math.inf  # by the engine's clock
        self._ahead = math.inf  # our clock less the engine's, at most
        self.busy: frozenset[str] = frozenset()  # adapters that were, between the last two looks

    def look(self, page: EngineMetrics, now: float) -> Mapping[str, float] | None:
        """Requests finished since the look before, by engine name and BASE; None at the first look.

        `now` is in seconds, by any clock that does not jump. A count that has become smaller began anew.
        """
        before, self._at = self._at, now
        count, self._finished = self._finished, page.requests_finished or 0.0
        last = self._last_busy(page, now)
        if before is None or now <= before:
            return None
        requests = (page.requests_running or 0) + (page.requests_waiting or 0)
        met = page.active_adapters if requests else frozenset[str]()
        self.busy = met.union(last)
        self._note(last, met, requests, now, now - before)
        finished = self._finished - count if self._finished >= count else self._finished
        return self._divide(finished, self.busy)

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

    def _note(self, last: Mapping[str, float], met: frozenset[str], requests: int, now: float, elapsed: float) -> None:
        fading = 0.5 ** (elapsed / self._half_life)
        self._looks *= fading
        self._requests *= fading
        self._seconds *= fading
        for trace in self._traces.values():
            trace.fade(fading)
        for name in {*last, *met} - self._traces.keys():
            self._traces[name] = _Trace(waited=self._seconds)  # it has been waiting since the first look
        for name, trace in self._traces.items():
            idle = min(now - last[name], elapsed) if name in last else elapsed
            trace.waited += 0.0 if name in met else max(idle, SHORTEST * elapsed)
            trace.seen += name in last or name in met
            trace.met += name in met
        self._looks += 1
        self._requests += requests
        self._seconds += elapsed
        for name in [name for name, trace in self._traces.items() if trace.seen < FORGOTTEN]:
            del self._traces[name]

    def _divide(self, finished: float, names: frozenset[str]) -> Mapping[str, float]:
        """Among those that were busy in between: what was not seen had none."""
        if not names:
            return {BASE: finished}
        load = self._requests / self._looks
        means = self._means(load)
        by_mean = _parts({name: means[name] for name in (*names, BASE)})
        shortest = max(SHORTEST * self._seconds, NANOSECOND)
        by_rate = _parts({name: self._traces[name].seen / max(self._traces[name].waited, shortest) for name in names})
        busyness = load / (1 + load)
        mixed = _parts(
            {name: busyness * part + (1 - busyness) * by_rate.get(name, 0.0) for name, part in by_mean.items()}
        )
        return {name: finished * part for name, part in mixed.items() if part > 0}

    def _means(self, load: float) -> dict[str, float]:
        """Mean number of requests in the engine by adapter, and of BASE what is left of `load`, that of all."""
        means = {name: -math.log1p(-trace.met / (self._looks + 0.5)) for name, trace in self._traces.items()}
        left = max(load - sum(means.values()), 0.0)
        always = [name for name, mean in means.items() if mean >= ALWAYS]
        for name in always:
            means[name] += left / len(always)
        return means | {BASE: 0.0 if always else left}


def _parts(weights: Mapping[str, float]) -> dict[str, float]:
    """Scaled to a sum of 1; all 0 where nothing has any weight."""
    total = sum(weights.values())
    return {name: weight / total if total > 0 else 0.0 for name, weight in weights.items()}
