"""What is under way on the pods, and what has failed there and is not due again yet.

Both are about the present of this process only: after a restart the ledger is empty and `/v1/models` tells the rest.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from lora_operator.process.backoff import doubled


class Stage(StrEnum):
    """How far an effect has come."""

    FETCHING = "Fetching"  # files are on their way to the pod
    LOADING = "Loading"  # the engine was asked
    UNANSWERED = "Unanswered"  # the engine was asked to load, did not answer in time, and may still do it
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
    instance: str
    fetched_percent: int = 0  # of the files, in quarters: fine enough for people, and few changes of status

    @property
    def is_load(self) -> bool:
        return self.stage in (Stage.FETCHING, Stage.LOADING)

    @property
    def reads_files(self) -> bool:
        """Whether the engine may read the files at any moment."""
        return self.is_load or self.stage is Stage.UNANSWERED

    @property
    def is_unload(self) -> bool:
        return self.stage in (Stage.WITHDRAWING, Stage.UNLOADING)


class Ledger:
    """Effects under way, at most one per pod and engine name.

    `failed_unloads` counts, by container instance and engine name, the unloads in a row that were asked for and not
    confirmed: the engine may still do them.
    """

    def __init__(self) -> None:
        self._effects: dict[str, dict[str, Effect]] = {}  # by pod, by engine name
        # those that began as loads, by adapter and version
        self._loads: dict[tuple[str | None, str | None], dict[tuple[str, str], Effect]] = {}
        self.failed_unloads: dict[tuple[str, str], int] = {}

    def __len__(self) -> int:
        return sum(map(len, self._effects.values()))

    def begin(self, effect: Effect) -> bool:
        """Enter an effect; false if something is already under way with that name on that pod."""
        here = self._effects.setdefault(effect.pod, {})
        if effect.engine_name in here:
            return False
        here[effect.engine_name] = effect
        if effect.reads_files:
            same = self._loads.setdefault((effect.adapter, effect.version), {})
            same[effect.pod, effect.engine_name] = effect
        return True

    def end(self, effect: Effect) -> None:
        here = self._effects.get(effect.pod, {})
        if here.get(effect.engine_name) is effect:
            del here[effect.engine_name]
            same = self._loads.get((effect.adapter, effect.version), {})
            same.pop((effect.pod, effect.engine_name), None)
            if not same:
                self._loads.pop((effect.adapter, effect.version), None)
            if not here:
                del self._effects[effect.pod]

    def get(self, pod: str, engine_name: str) -> Effect | None:
        return self._effects.get(pod, {}).get(engine_name)

    def loads(self) -> Iterator[Effect]:
        """All loads that are under way, or may still happen."""
        return (effect for same in self._loads.values() for effect in same.values())

    def loads_of(self, adapter: str | None, version: str | None) -> Iterator[Effect]:
        """Those of one version. There may be thousands of others."""
        return iter(self._loads.get((adapter, version), {}).values())

    def goes_on(self) -> bool:
        """Whether something is under way that soon ends, so that more news of the kind follows. An unload that has
        failed before waits for long."""
        return any(effect.is_load for effect in self.loads()) or any(
            effect.stage is Stage.UNLOADING and (effect.instance, name) not in self.failed_unloads
            for here in self._effects.values()
            for name, effect in here.items()
        )

    def on(self, pod: str) -> Iterator[Effect]:
        return iter(self._effects.get(pod, {}).values())

    def unloads(self, pod: str, instance: str, engine_name: str) -> bool:
        """Whether we have asked this container instance to forget that name, so that it is no news when it does."""
        effect = self.get(pod, engine_name)
        return (effect is not None and effect.is_unload) or (instance, engine_name) in self.failed_unloads


@dataclass(frozen=True, slots=True)
class Failure:
    """The last failed attempt to load one version on one container instance of a pod. Times are monotonic.

    `passes_at`: from when on others may have to make room for it again; None where only another version helps, or that
    it serves somewhere.
    """

    reason: str
    message: str
    attempts: int
    next_at: float
    passes_at: float | None = None


EVERYWHERE = ""  # in place of a pod: a failure that keeps an adapter off all pods


class Failures:
    """Back-off per adapter version and pod, exponential with jitter, so that a bad pair is retried but harms nobody."""

    def __init__(self, first_seconds: float, max_seconds: float) -> None:
        self._first = first_seconds
        self._max = max_seconds
        self._known: dict[str, dict[tuple[str, str], tuple[str, Failure]]] = {}  # by pod, by adapter and version

    def __len__(self) -> int:
        return sum(map(len, self._known.values()))

    def add(
        self,
        adapter: str,
        version: str,
        pod: str,
        instance: str,
        reason: str,
        message: str,
        now: float,
        slow: bool,
        wished_seconds: float = 0.0,
        passes: bool = False,
    ) -> Failure:
        """Note a failure. `slow` starts at ten times the first delay, for what hardly heals by itself. A store's wish
        to be left alone for `wished_seconds` is granted, for an hour at most. `passes`: it says nothing of the version,
        so that others make room for it again after the longest delay, if it is `slow` after ten: not at every try.
        """
        here = self._known.setdefault(pod, {})
        before = here.get((adapter, version))
        attempts = before[1].attempts + 1 if before and before[0] == instance else 1
        base = doubled(self._first * (10 if slow else 1), attempts - 1, self._max)
        delay = max(base * random.uniform(0.8, 1.2), min(wished_seconds, 3600.0))
        passes_at = now + max(delay, self._max * (10 if slow else 1)) if passes else None
        failure = Failure(reason, message, attempts, now + delay, passes_at)
        here[adapter, version] = (instance, failure)
        return failure

    def add_death(self, adapter: str, version: str, message: str, now: float) -> Failure:
        """Note that an engine died while it was loading this.

        Once can happen to any: it only counts. From the second time on the adapter is kept off all pods for a while,
        lest it takes one after the other down.
        """
        deaths = self._known.setdefault(EVERYWHERE, {})
        before = deaths.get((adapter, version))
        attempts = before[1].attempts + 1 if before else 1
        delay = doubled(self._first * 10, attempts - 2, self._max) if attempts > 1 else 0.0
        failure = Failure("EngineDied", message, attempts, now + delay * random.uniform(0.8, 1.2))
        deaths[adapter, version] = (EVERYWHERE, failure)
        return failure

    def is_deadly(self, adapter: str | None, version: str | None, now: float) -> bool:
        """Whether it is kept off all pods, since engines have died while they were loading it."""
        failure = self.get(adapter or "", version or "", EVERYWHERE, EVERYWHERE)
        return failure is not None and failure.attempts > 1 and failure.next_at > now

    def clear(self, adapter: str, version: str, pod: str) -> None:
        """A load has succeeded on that pod."""
        for place in (pod, EVERYWHERE):
            here = self._known.get(place, {})
            here.pop((adapter, version), None)
            if not here:
                self._known.pop(place, None)

    def get(self, adapter: str, version: str, pod: str, instance: str) -> Failure | None:
        """The failure of this version in this container instance of the pod, due again or not."""
        known = self._known.get(pod, {}).get((adapter, version))
        return known[1] if known and known[0] == instance else None

    def of_pod(self, pod: str, instance: str) -> Iterator[tuple[str, str, Failure]]:
        """(adapter, version, failure) of this container instance of the pod, then of what is kept off all pods."""
        for (adapter, version), (of, failure) in self._known.get(pod, {}).items():
            if of == instance:
                yield adapter, version, failure
        for (adapter, version), (_, failure) in self._known.get(EVERYWHERE, {}).items():
            if failure.attempts > 1:
                yield adapter, version, failure

    def prune(self, adapters: set[tuple[str, str]], pods: set[str]) -> None:
        """Forget what nobody wants any more."""
        for place, known in list(self._known.items()):
            stay = place == EVERYWHERE or place in pods
            left = {key: value for key, value in known.items() if stay and key in adapters}
            if left:
                self._known[place] = left
            else:
                del self._known[place]

    def next_due(self, now: float) -> float | None:
        """When the first failure that is not yet due becomes due, or has passed."""
        known = (failure for here in self._known.values() for _, failure in here.values())
        times = (at for failure in known for at in (failure.next_at, failure.passes_at) if at is not None and at > now)
        return min(times, default=None)
