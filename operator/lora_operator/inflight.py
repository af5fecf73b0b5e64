"""What is under way on the pods, and what has failed there and is not due again yet.

Both are about the present of this process only: after a restart the ledger is empty and `/v1/models` tells the rest.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum


class Stage(StrEnum):
    """How far an effect has come."""

    FETCHING = "Fetching"  # files are on their way to the pod
    LOADING = "Loading"  # the engine was asked
    WITHDRAWING = "Withdrawing"  # out of status, the routers are letting go
    UNLOADING = "Unloading"  # the engine was asked


@dataclass(slots=True)
class Effect:
    """One load or unload under way. It takes the room on the pod that it will take when it is done."""

    pod: str
    engine_name: str
    stage: Stage
    adapter: str | None
    version: str | None
    bytes: int
    rank: int
    incarnation: str

    @property
    def is_load(self) -> bool:
        return self.stage in (Stage.FETCHING, Stage.LOADING)


class Ledger:
    """Effects under way, at most one per pod and engine name."""

    def __init__(self) -> None:
        self._effects: dict[tuple[str, str], Effect] = {}

    def __len__(self) -> int:
        return len(self._effects)

    def begin(self, effect: Effect) -> bool:
        """Enter an effect; false if something is already under way with that name on that pod."""
        key = (effect.pod, effect.engine_name)
        if key in self._effects:
            return False
        self._effects[key] = effect
        return True

    def end(self, effect: Effect) -> None:
        key = (effect.pod, effect.engine_name)
        if self._effects.get(key) is effect:
            del self._effects[key]

    def get(self, pod: str, engine_name: str) -> Effect | None:
        return self._effects.get((pod, engine_name))

    def on(self, pod: str) -> Iterator[Effect]:
        return (effect for effect in self._effects.values() if effect.pod == pod)


@dataclass(frozen=True, slots=True)
class Failure:
    """The last failed attempt to load one version on one life of a pod. Times are monotonic."""

    reason: str
    message: str
    attempts: int
    next_at: float


EVERYWHERE = ""  # in place of a pod: a failure that keeps an adapter off all pods


class Failures:
    """Back-off per adapter version and pod, exponential with jitter, so that a bad pair is retried but harms nobody."""

    def __init__(self, first_seconds: float, max_seconds: float) -> None:
        self._first = first_seconds
        self._max = max_seconds
        self._known: dict[tuple[str, str, str], tuple[str, Failure]] = {}

    def add(
        self, adapter: str, version: str, pod: str, incarnation: str, reason: str, message: str, now: float, slow: bool
    ) -> Failure:
        """Note a failure. `slow` starts at ten times the first delay, for what hardly heals by itself."""
        key = (adapter, version, pod)
        before = self._known.get(key)
        attempts = before[1].attempts + 1 if before and before[0] == incarnation else 1
        base = self._first * (10 if slow else 1) * 2 ** min(attempts - 1, 20)
        delay = min(base, self._max) * random.uniform(0.8, 1.2)
        failure = Failure(reason, message, attempts, now + delay)
        self._known[key] = (incarnation, failure)
        return failure

    def add_death(self, adapter: str, version: str, message: str, now: float) -> Failure:
        """Note that an engine died while it was loading this.

        Once can happen to any: it only counts. From the second time on the adapter is kept off all pods for a while,
        lest it takes one after the other down.
        """
        before = self._known.get((adapter, version, EVERYWHERE))
        attempts = before[1].attempts + 1 if before else 1
        delay = min(self._first * 10 * 2 ** min(attempts - 2, 20), self._max) if attempts > 1 else 0.0
        failure = Failure("EngineDied", message, attempts, now + delay * random.uniform(0.8, 1.2))
        self._known[(adapter, version, EVERYWHERE)] = (EVERYWHERE, failure)
        return failure

    def clear(self, adapter: str, version: str, pod: str) -> None:
        """A load has succeeded on that pod."""
        self._known.pop((adapter, version, pod), None)
        self._known.pop((adapter, version, EVERYWHERE), None)

    def get(self, adapter: str, version: str, pod: str, incarnation: str) -> Failure | None:
        """The failure of this version in this life of the pod, due again or not."""
        known = self._known.get((adapter, version, pod))
        return known[1] if known and known[0] == incarnation else None

    def of_pod(self, pod: str, incarnation: str) -> Iterator[tuple[str, str, Failure]]:
        for (adapter, version, where), (life, failure) in self._known.items():
            here = where == pod and life == incarnation
            if here or (where == EVERYWHERE and failure.attempts > 1):
                yield adapter, version, failure

    def prune(self, adapters: set[tuple[str, str]], pods: set[str]) -> None:
        """Forget what nobody wants any more."""
        places = {*pods, EVERYWHERE}
        for key in [k for k in self._known if (k[0], k[1]) not in adapters or k[2] not in places]:
            del self._known[key]

    def next_due(self, now: float) -> float | None:
        """When the first failure that is not yet due becomes due."""
        return min((f.next_at for _, f in self._known.values() if f.next_at > now), default=None)
