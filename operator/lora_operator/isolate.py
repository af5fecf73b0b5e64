"""Keeps one object that breaks our code from stopping the work for all others.

A defect that one object brings to light is logged once with its traceback, and what is done for the others goes on.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Container, Iterator
from contextlib import contextmanager
from dataclasses import replace

from lora_scheduler import Adapter, Plan, Planner, Pod, Policy, Resident, Snapshot, plan

log = logging.getLogger(__name__)

REMEMBERED = 1000


class Isolation:
    """Remembers what was logged already: a round is tried again many times a minute. It keeps the planner, so that a
    round costs what has changed since the last one."""

    def __init__(self) -> None:
        self._said: OrderedDict[str, str] = OrderedDict()
        self._planner: Planner | None = None
        self._odd: dict[str, Adapter | Pod] = {}  # what could not be planned with

    @contextmanager
    def around(self, what: str) -> Iterator[None]:
        """Log an exception of the block, and go on after it."""
        try:
            yield
        except Exception as error:
            text = f"{type(error).__name__}: {error}"
            if self._said.get(what) != text:
                log.exception("%s failed; everything else goes on without it. This is a defect: please report it", what)
            self._said[what] = text
            while len(self._said) > REMEMBERED:
                self._said.popitem(last=False)

    def plan(self, snapshot: Snapshot, policy: Policy) -> Plan:
        """`lora_scheduler.plan` without the adapters and pods that it does not take, if there are any.

        Raises what `plan` raises where no single one is to blame; the next round then begins from scratch.
        """
        planner, self._planner = self._planner, None
        if planner is None or planner.policy != policy:
            planner = Planner(policy, remember=True)
        snapshot = self._without_odd_ones(snapshot)
        try:
            made = planner.plan(snapshot)
        except Exception:
            sound = self._sound(snapshot, policy)
            self._odd |= _left_out(snapshot, sound)
            planner = Planner(policy, remember=True)
            made = planner.plan(sound)
            if sound == snapshot:
                with self.around("planning on from the round before"):
                    raise  # from scratch it can be done
        self._planner = planner
        return made

    def _without_odd_ones(self, snapshot: Snapshot) -> Snapshot:
        """Leave out what could not be planned with before, as long as it is there unchanged: to find it takes long."""
        present = {thing.key: thing for thing in _all(snapshot) if thing.key in self._odd} if self._odd else {}
        self._odd = {key: thing for key, thing in self._odd.items() if present.get(key) == thing}
        return _reduced(snapshot, self._odd.keys()) if self._odd else snapshot

    def _sound(self, snapshot: Snapshot, policy: Policy) -> Snapshot:
        """What can be planned with: first what can when it is alone, then without those that break it for others."""
        odd: set[str] = set()
        for adapter in snapshot.adapters:
            with self._blaming(f"adapter {adapter.key}", adapter.key, odd):
                plan(Snapshot((adapter,), ()), policy)
        for pod in snapshot.pods:
            with self._blaming(f"pod {pod.key}", pod.key, odd):
                plan(Snapshot((), (pod,)), policy)
        sound = _reduced(snapshot, odd) if odd else snapshot
        while (culprit := _culprit(sound, policy)) is not None:
            with self._blaming(f"adapter {culprit.key}", culprit.key, odd):
                plan(Snapshot((culprit,), sound.pods), policy)
            odd.add(culprit.key)
            sound = _reduced(snapshot, odd)
        return sound

    @contextmanager
    def _blaming(self, what: str, key: str, odd: set[str]) -> Iterator[None]:
        odd.add(key)
        with self.around(f"planning with {what}"):
            yield
            odd.discard(key)


def _culprit(snapshot: Snapshot, policy: Policy) -> Adapter | None:
    """The first adapter that cannot be planned with on these pods; None if there is none, or only several together."""
    suspects = snapshot.adapters
    while suspects and _breaks(Snapshot(suspects, snapshot.pods), policy):
        if len(suspects) == 1:
            return suspects[0]
        half = suspects[: len(suspects) // 2]
        suspects = half if _breaks(Snapshot(half, snapshot.pods), policy) else suspects[len(half) :]
    return None


def _breaks(snapshot: Snapshot, policy: Policy) -> bool:
    try:
        plan(snapshot, policy)
    except Exception:
        return True
    return False


def _left_out(before: Snapshot, after: Snapshot) -> dict[str, Adapter | Pod]:
    kept = {thing.key for thing in _all(after)}
    return {thing.key: thing for thing in _all(before) if thing.key not in kept}


def _all(snapshot: Snapshot) -> Iterator[Adapter | Pod]:
    yield from snapshot.adapters
    yield from snapshot.pods


def _reduced(snapshot: Snapshot, odd: Container[str]) -> Snapshot:
    """Without some adapters and pods."""
    adapters = tuple(adapter for adapter in snapshot.adapters if adapter.key not in odd)
    sound = {adapter.key for adapter in adapters}
    pods = (pod for pod in snapshot.pods if pod.key not in odd)
    return Snapshot(
        adapters, tuple(replace(pod, residents=tuple(_kept(each, sound) for each in pod.residents)) for pod in pods)
    )


def _kept(resident: Resident, sound: Container[str]) -> Resident:
    """Copies of an adapter that is left out are nobody's, so that they stay where they are."""
    if resident.adapter is None or resident.adapter in sound:
        return resident
    return replace(resident, adapter=None, owned=False)
