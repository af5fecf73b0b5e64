"""Requests per second of each adapter: smoothed, and held still until noise alone cannot explain a change. Pure.

Every look at an engine adds the requests that finished there since the look before. They fade exponentially by the
half-life while some engine that lists the adapter is looked at; while nobody can see it, nothing fades. What is
published moves in steps, and only once the estimate has left it by more than a step and twice the noise that requests
arriving at random would give. So a fleet where nothing changes publishes nothing, and a quiet one is at 0.

Unknown is not 0: an adapter is unknown until it was looked at for a half-life, and all are until the whole fleet was
for one and a half, so that a restarted operator learns of all of them at once.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Container, Mapping
from dataclasses import dataclass
from types import MappingProxyType

Name = tuple[str, str]  # namespace and public name of an adapter

STEP = 1.25
DIGITS = 3
NOISES = 2.0
SILENT = 1 / 4  # requests in memory: the last one was two half-lives ago
PATIENCE = 1.5  # half-lives from the first look until anything is published


@dataclass(slots=True)
class _Meter:
    """One adapter: requests and seconds, both fading, as of `at`."""

    at: float
    requests: float = 0.0
    seconds: float = 0.0  # looked at so far, not fading
    published: float | None = None


class Demand:
    """All adapters of a fleet. `demands` are requests per second; what is unknown is not in there."""

    def __init__(self, half_life_seconds: float) -> None:
        self._half_life = half_life_seconds
        self._meters: dict[Name, _Meter] = {}
        self._since: float | None = None
        self._open = False
        self._published: dict[Name, float] = {}

    @property
    def demands(self) -> Mapping[Name, float]:
        return MappingProxyType(self._published)

    def add(self, listed: Collection[Name], finished: Mapping[Name, float], since: float, now: float) -> bool:
        """Take one look at an engine that lists these adapters, and finished so many requests since `since`.

        True if something is published that was not before.
        """
        if self._since is None:
            self._since = since
        for name in listed:
            meter = self._meters.get(name)
            if meter is None:
                meter = self._meters[name] = _Meter(since)
            self._advance(meter, since, now)
            meter.requests += finished.get(name, 0.0)
        if not self._open:
            if now - self._since < PATIENCE * self._half_life:
                return False
            # all of them with one look: the known are not to be weighed against the unknown because of their turn
            self._open, listed = True, tuple(self._meters)
        news = [self._publish(name, self._meters[name]) for name in listed]
        return any(news)

    def keep(self, names: Container[Name]) -> None:
        """Forget all other adapters."""
        for name in [name for name in self._meters if name not in names]:
            del self._meters[name]
            self._published.pop(name, None)

    def _advance(self, meter: _Meter, since: float, now: float) -> None:
        # several engines list it, and their looks overlap: time counts once, and where there was no look not at all
        elapsed = max(now - max(meter.at, since), 0.0)
        meter.at = max(now, meter.at)
        meter.requests *= 0.5 ** (elapsed / self._half_life)
        meter.seconds += elapsed

    def _publish(self, name: Name, meter: _Meter) -> bool:
        if meter.seconds < self._half_life:
            return False
        fading = math.log(2) / self._half_life
        rate = meter.requests * fading / (1 - 0.5 ** (meter.seconds / self._half_life))
        before = meter.published
        if before is not None:
            higher = max(rate, before)
            noise = math.sqrt(higher * fading / 2)
            moved = abs(rate - before) > (1 - 1 / STEP) * higher + NOISES * noise
            if not moved and rate >= SILENT * fading:
                return False
        after = step_of(rate, fading)
        if after == before:
            return False
        meter.published = self._published[name] = after
        return True


def step_of(rate: float, least: float) -> float:
    """The nearest power of STEP, rounded; 0 for less than `least`, which is one request in the memory's reach."""
    if rate < least:
        return 0.0
    stepped = STEP ** round(math.log(rate, STEP))
    return round(stepped, DIGITS - 1 - math.floor(math.log10(stepped)))
