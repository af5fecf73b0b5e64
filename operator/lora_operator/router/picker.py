"""Chooses an endpoint with the policies of the routing library, over an index that follows the table."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass

from lora_operator.router.entries import Endpoint, Entry
from lora_operator.router.table import RoutingTable
from lora_scheduler.rendezvous import weight
from lora_scheduler.routing import POLICIES, Ask, Chance, Holding, Index, Picked, Rules, pick
from lora_scheduler.routing import Endpoint as Pod

HASH = "hash"
DEFAULT_POLICY = "lora-affinity"
NAMES = tuple(sorted({*POLICIES, HASH}))


@dataclass(slots=True)
class _Held:
    """What a pod answers for: adapter -> engine name, and one of the names of its base model."""

    address: str
    base_model: str
    names: dict[str, str]


class Picker:
    """Keeps the index in step with the table; what it hands out counts as sent, so that picks spread."""

    def __init__(
        self, table: RoutingTable, chance: Chance | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._table = table
        self._chance: Chance = chance or random.Random()
        self._clock = clock
        self._rules = {name: Rules(policy=name) for name in POLICIES}
        self.index = Index()
        self._pods: dict[str, _Held] = {}
        self._seen = 0
        table.listen(self._follow)
        self._follow()

    def pick(self, entry: Entry, policy: str, key: str, avoid: frozenset[str]) -> Endpoint | None:
        """One of the entry's endpoints by a policy of NAMES; None if none is left. `avoid`: names of pods."""
        if policy == HASH:
            left = [one for one in entry.endpoints if one.pod not in avoid]
            return max(left, key=lambda one: weight(key, one.pod), default=None)
        now = self._clock()
        adapter = f"{entry.namespace}/{entry.name}"
        ask = Ask((adapter,), avoid=frozenset(f"{entry.namespace}/{pod}" for pod in avoid) if avoid else avoid)
        answer = pick(self.index, ask, now=now, chance=self._chance, rules=self._rules[policy])
        if not isinstance(answer, Picked):
            return None
        self.index.sent(answer.endpoint.pod, now=now)
        return Endpoint(answer.endpoint.pod.partition("/")[2], answer.endpoint.address, answer.names[adapter])

    def _follow(self) -> None:
        """Take over what changed in the table since the last time."""
        changes = self._table.since(self._seen)
        touched: set[str] = set()
        if changes is None:  # more than the log holds
            touched |= self._pods.keys()
            self._pods = {}
            for entry in self._table.after():
                touched |= self._hold(entry)
        else:
            for change in changes:
                if change.before is not None:
                    touched |= self._drop(change.before)
                if change.after is not None:
                    touched |= self._hold(change.after)
        self._seen = self._table.version
        now = self._clock()
        for key in sorted(touched):
            held = self._pods.get(key)
            if held is None or not held.names:
                self._pods.pop(key, None)
                self.index.remove(key, now=now)
                continue
            holdings = tuple(Holding(adapter, name) for adapter, name in sorted(held.names.items()))
            self.index.put(Pod(key, held.address, held.base_model, holdings, host_slots=len(holdings)), now=now)

    def _hold(self, entry: Entry) -> set[str]:
        adapter = f"{entry.namespace}/{entry.name}"
        touched = set()
        for one in entry.endpoints:
            key = f"{entry.namespace}/{one.pod}"
            held = self._pods.get(key)
            if held is None:
                held = self._pods[key] = _Held(one.address, f"{entry.namespace}/{entry.base_model}", {})
            held.address = one.address
            held.names[adapter] = one.engine_name
            touched.add(key)
        return touched

    def _drop(self, entry: Entry) -> set[str]:
        adapter = f"{entry.namespace}/{entry.name}"
        touched = set()
        for one in entry.endpoints:
            key = f"{entry.namespace}/{one.pod}"
            held = self._pods.get(key)
            if held is not None:
                held.names.pop(adapter, None)
                touched.add(key)
        return touched
