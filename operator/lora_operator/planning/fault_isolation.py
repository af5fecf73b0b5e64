"""Keeps one object that breaks our code from stopping the work for all others.

A defect that one object brings to light is logged once with its traceback, and what is done for the others goes on.
"""

from __future__ import annotations

import logging
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TypeVar

from lora_scheduler import Adapter, Plan, Planner, Pod, Policy, Resident, Snapshot, plan

log = logging.getLogger(__name__)

REMEMBERED = 1000
SEARCH_SECONDS = 0.25  # in one round, for what breaks planning
_Thing = TypeVar("_Thing", bound=Adapter | Pod)


class Isolation:
    """Remembers what was logged already: a round is tried again many times a minute. It keeps the planner, so that a
    round costs what has changed since the last one."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._said: OrderedDict[str, str] = OrderedDict()
        self._planner: Planner | None = None
        self._planned = Snapshot((), ())  # what it was given when it worked last
        self._odd: dict[str, Adapter | Pod] = {}  # what could not be planned with
        self._untried: list[set[str]] = []  # keys of what may be so, by groups that a search goes on with

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
            planner, odd = self._search(snapshot, policy)
            self._odd |= {thing.key: thing for thing in _all(snapshot) if thing.key in odd}
            odd = odd.union(*self._untried)
            sound = _reduced(snapshot, odd) if odd else snapshot
            made = planner.plan(sound)
            if sound == snapshot:
                with self.around("planning on from the round before"):
                    raise  # from scratch it can be done
            snapshot = sound
        self._planner, self._planned = planner, snapshot
        return made

    def _without_odd_ones(self, snapshot: Snapshot) -> Snapshot:
        """Leave out what could not be planned with before, as long as it is there unchanged: to find it takes long."""
        present = {thing.key: thing for thing in _all(snapshot) if thing.key in self._odd} if self._odd else {}
        self._odd = {key: thing for key, thing in self._odd.items() if present.get(key) == thing}
        return _reduced(snapshot, self._odd.keys()) if self._odd else snapshot

    def _search(self, snapshot: Snapshot, policy: Policy) -> tuple[Planner, set[str]]:
        """A planner that knows most of what can be planned with, and the keys of what cannot; what there was no time to
        try is left to the next round.

        Looked for among what is not as it was when planning last worked, by halves: each try costs a plan, and the
        planning loop waits.
        """
        planner, ends_at = Planner(policy, remember=True), self._clock() + SEARCH_SECONDS
        untried, self._untried = self._untried, []
        before = {thing.key: thing for thing in _all(self._planned)}
        news = {thing.key for thing in _all(snapshot) if before.get(thing.key) != thing}
        try:
            planner.plan(_reduced(snapshot, news))
        except Exception:
            planner, news = Planner(policy, remember=True), {thing.key for thing in _all(snapshot)}
        adapters = [adapter for adapter in snapshot.adapters if adapter.key in news]
        pods = [pod for pod in snapshot.pods if pod.key in news]
        odd = self._odd_among([pods], lambda some: Snapshot((), some), policy)
        odd |= self._odd_among([adapters], lambda some: Snapshot(some, ()), policy)
        sound = _reduced(snapshot, odd)
        known = set[str]().union(*untried)
        groups = [[each for each in adapters if each.key in keys - odd] for keys in untried]
        groups.append([each for each in adapters if each.key not in known | odd])
        return planner, odd | self._odd_among(groups, lambda some: Snapshot(some, sound.pods), policy, ends_at)

    def _odd_among(
        self,
        groups: list[list[_Thing]],
        beside: Callable[[tuple[_Thing, ...]], Snapshot],
        policy: Policy,
        ends_at: float = math.inf,
    ) -> set[str]:
        """Those that break planning each by itself, in the snapshot that `beside` makes of some of them. It ends
        at `ends_at`, after one try at the earliest."""
        odd: set[str] = set()
        tried = False
        while groups:
            if tried and self._clock() >= ends_at:
                self._untried = [{thing.key for thing in group} for group in groups if group]
                break
            group: tuple[_Thing, ...] = tuple(groups.pop())
            tried = tried or bool(group)
            if len(group) == 1:
                with self.around(f"planning with {_what(group[0])}"):
                    plan(beside(group), policy)
                    continue
                odd.add(group[0].key)
            elif group and _breaks(beside(group), policy):
                half = len(group) // 2
                groups.extend([[*group[half:]], [*group[:half]]])
        return odd


def _what(thing: Adapter | Pod) -> str:
    return f"{type(thing).__name__.lower()} {thing.key}"


def _breaks(snapshot: Snapshot, policy: Policy) -> bool:
    try:
        plan(snapshot, policy)
    except Exception:
        return True
    return False


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
