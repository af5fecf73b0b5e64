"""How many replicas an adapter should have: what it asks for, one on every pod, or as many as its demand needs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from math import ceil, frexp, ldexp

from lora_scheduler.allotment import Group, share_of
from lora_scheduler.ledger import PodLedger
from lora_scheduler.model import Adapter, ReplicaPolicy

CLEARLY_LESS = 0.7  # a replica goes when without it the others carry less than this part of what one may carry
STEPS = 64  # a mean load counts with this precision, so that not every change of it concerns every adapter


class Followed:
    """What adapters follow whose replica policy is Auto: the mean load of the pods of their base model."""

    def __init__(self) -> None:
        self.adapters: set[str] = set()  # the keys of those that follow
        self._demand: dict[str, float] = {}
        self._sizes: Counter[str] = Counter()  # adapters by base model
        self._mean: dict[str, float] = {}

    def add(self, adapter: Adapter) -> None:
        if adapter.replica_policy is ReplicaPolicy.AUTO:
            self.adapters.add(adapter.key)
        self._sizes[adapter.base_model] += 1
        self._demand[adapter.base_model] = self._demand.get(adapter.base_model, 0.0) + _known(adapter)

    def discard(self, adapter: Adapter) -> None:
        """One that had been added, as it was then."""
        self.adapters.discard(adapter.key)
        self._demand[adapter.base_model] -= _known(adapter)
        self._sizes[adapter.base_model] -= 1
        if not self._sizes[adapter.base_model]:
            del self._sizes[adapter.base_model], self._demand[adapter.base_model]

    def update(self, pods: Iterable[PodLedger]) -> bool:
        """Work the means out anew; whether any has changed."""
        count = Counter([pod.pod.base_model for pod in pods if pod.counts])
        mean = {model: _rounded(demand / count[model]) for model, demand in self._demand.items() if count[model]}
        changed = mean != self._mean
        self._mean = mean
        return changed

    def mean(self, base_model: str) -> float:
        """Requests per second of one pod; 0 if nothing is known of them."""
        return self._mean.get(base_model, 0.0)


def wanted_replicas(adapter: Adapter, group: Group, present: int, load: float) -> tuple[int, int]:
    """How many replicas there should be, and how many it could be at most as things are.

    `present` is how many there are, `load` how much one replica may carry, in requests per second; 0 if that is
    unknown.
    """
    if adapter.replica_policy is ReplicaPolicy.ALL_PODS:
        wanted = len(group.ready) if adapter.replicas > 0 else 0
        return wanted, wanted
    if adapter.replica_policy is not ReplicaPolicy.AUTO or adapter.replicas == 0:
        return adapter.replicas, adapter.replicas
    most = len(group.matching) if adapter.max_replicas is None else adapter.max_replicas
    least = adapter.replicas if adapter.max_replicas is None else min(adapter.replicas, most)
    demand = _known(adapter)
    if not demand or not load:
        return least, least
    enough = ceil(demand / load)
    plenty = ceil(demand / (load * CLEARLY_LESS))
    # up at once, down only when clearly too many: between the two, any number is right and stays as it is
    return _within(least, min(max(present, enough), plenty), most), _within(least, plenty, most)


def _within(least: int, wanted: int, most: int) -> int:
    return max(least, min(wanted, most))


def _known(adapter: Adapter) -> float:
    return 0.0 if adapter.demand is None else share_of(adapter, 1)


def _rounded(mean: float) -> float:
    fraction, exponent = frexp(mean)
    return ldexp(round(fraction * STEPS) / STEPS, exponent)
