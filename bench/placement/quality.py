"""How good an assignment is: what is unplaced, how even the load is, what it serves, and which limits are broken."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from lora_scheduler import Adapter, Pod, PreemptionPolicy, ReplicaPolicy, Snapshot

UNLIMITED = 1 << 60
Assignment = Mapping[str, tuple[str, ...]]  # adapter key -> keys of the pods that hold it


@dataclass(frozen=True, slots=True)
class Quality:
    """`unplaced`, `missing`: adapters without any replica, replicas that lack. `imbalance`: largest load of a pod ÷ the
    larger of mean load and largest replica, were all there. `served`: demand per priority that has a replica, in
    requests per second. `over_limit`: pods with a broken limit. `skewed`: adapters with two replicas more in one domain
    than in another one that has room. `inversions`: adapters that lack a replica though lower priorities hold the room
    for it."""

    unplaced: int
    missing: int
    imbalance: float
    largest_load: float
    served: Mapping[int, float]
    over_limit: int
    skewed: int
    inversions: int


@dataclass(slots=True)
class _Place:
    """One pod with what an assignment puts there."""

    pod: Pod
    adapters: list[Adapter] = field(default_factory=list)
    load: float = 0.0

    def fits(self, adapter: Adapter, without_below: int | None = None) -> bool:
        """Whether one more replica fits, be it after all adapters below a priority have left."""
        stay = [one for one in self.adapters if without_below is None or one.priority >= without_below]
        return usable(self.pod) and adapter not in self.adapters and not is_over(self.pod, [*stay, adapter])


def held(snapshot: Snapshot) -> dict[str, tuple[str, ...]]:
    """Who is where by what is resident."""
    found: dict[str, set[str]] = {adapter.key: set() for adapter in snapshot.adapters}
    for pod in snapshot.pods:
        for resident in pod.residents:
            if resident.adapter in found:
                found[resident.adapter].add(pod.key)
    return {key: tuple(sorted(pods)) for key, pods in found.items()}


def quality(snapshot: Snapshot, assignment: Assignment) -> Quality:
    """Judge the assignment by the adapters and pods of the snapshot; its residents do not matter."""
    places = {pod.key: _Place(pod) for pod in snapshot.pods}
    largest_replica, served = 0.0, dict.fromkeys((adapter.priority for adapter in snapshot.adapters), 0.0)
    unplaced = missing = 0
    lacking: list[Adapter] = []
    for adapter in snapshot.adapters:
        there = assignment.get(adapter.key, ())
        wanted = wanted_replicas(adapter, there)
        unplaced += not there and wanted > 0
        missing += max(wanted - len(there), 0)
        if len(there) < wanted:
            lacking.append(adapter)
        demand = 1.0 if adapter.demand is None else adapter.demand
        served[adapter.priority] += demand * min(len(there), wanted) / max(wanted, 1)
        for key in there:
            places[key].adapters.append(adapter)
            places[key].load += demand / len(there)
            largest_replica = max(largest_replica, demand / max(wanted, 1))
    loads = [place.load for place in places.values() if usable(place.pod)]
    top, mean = max(loads, default=0.0), sum(loads) / max(len(loads), 1)
    return Quality(
        unplaced, missing, top / (max(mean, largest_replica) or 1.0), top, served,
        over_limit=sum(is_over(place.pod, place.adapters) for place in places.values()),
        skewed=sum(_skewed(adapter, assignment.get(adapter.key, ()), places) for adapter in snapshot.adapters),
        inversions=sum(_inverted(adapter, places.values()) for adapter in lacking),
    )  # fmt: skip


def usable(pod: Pod) -> bool:
    """Whether anything may be placed there."""
    return pod.ready and not pod.draining


def budget_bytes(pod: Pod) -> int:
    """The memory of a pod; without a declared budget, more than anybody asks for."""
    return UNLIMITED if pod.memory_bytes is None else pod.memory_bytes


def wanted_replicas(adapter: Adapter, there: tuple[str, ...]) -> int:
    """What Auto has chosen counts as wanted."""
    return max(len(there), adapter.replicas) if adapter.replica_policy is ReplicaPolicy.AUTO else adapter.replicas


def is_over(pod: Pod, adapters: list[Adapter]) -> bool:
    """Whether these adapters break a limit of the pod."""
    return (
        len(adapters) > pod.host_slots
        or sum(adapter.bytes for adapter in adapters) > budget_bytes(pod)
        or any(adapter.rank > pod.max_rank for adapter in adapters)
    )


def _skewed(adapter: Adapter, there: tuple[str, ...], places: Mapping[str, _Place]) -> bool:
    """Whether a domain has two replicas more than another one that has room for a further replica."""
    if len(there) < 2:
        return False
    counts = Counter(_domain(places[key].pod, adapter) for key in there)
    most = max(counts.values())
    if most < 2:
        return False
    return any(counts[_domain(place.pod, adapter)] <= most - 2 and place.fits(adapter) for place in places.values())


def _domain(pod: Pod, adapter: Adapter) -> str:
    return pod.node_labels.get(adapter.topology_key, pod.key)


def _inverted(adapter: Adapter, places: Iterable[_Place]) -> bool:
    """Whether a pod could take it, at the cost of lower priorities only."""
    if adapter.preemption is PreemptionPolicy.NONE:
        return False
    return any(
        any(other.priority < adapter.priority for other in place.adapters) and place.fits(adapter, adapter.priority)
        for place in places
    )
