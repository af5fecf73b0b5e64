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
            planner = Planner(policy)
        try:
            made = planner.plan(snapshot)
        except Exception:
            sound = self._sound(snapshot, policy)
            if sound == snapshot:
                raise
            made = planner.plan(sound)
        self._planner = planner
        return made

    def _sound(self, snapshot: Snapshot, policy: Policy) -> Snapshot:
        """What can be planned with when it is alone."""
        adapters: list[Adapter] = []
        pods: list[Pod] = []
        for adapter in snapshot.adapters:
            with self.around(f"planning with adapter {adapter.key}"):
                plan(Snapshot((adapter,), ()), policy)
                adapters.append(adapter)
        sound = {adapter.key for adapter in adapters}
        for pod in snapshot.pods:
            with self.around(f"planning with pod {pod.key}"):
                plan(Snapshot((), (pod,)), policy)
                pods.append(replace(pod, residents=tuple(_kept(resident, sound) for resident in pod.residents)))
        return Snapshot(tuple(adapters), tuple(pods))


def _kept(resident: Resident, sound: Container[str]) -> Resident:
    """Copies of an adapter that is left out are nobody's, so that they stay where they are."""
    if resident.adapter is None or resident.adapter in sound:
        return resident
    return replace(resident, adapter=None, owned=False)
