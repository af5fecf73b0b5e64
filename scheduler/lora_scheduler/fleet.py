"""Turns a snapshot into the accounts of one planning round: who has what where, before anything is decided."""

from __future__ import annotations

from collections.abc import Iterable

from lora_scheduler.allotment import Allotment, Group
from lora_scheduler.filters import DECLARED, first_refusal
from lora_scheduler.ledger import Copy, PodLedger
from lora_scheduler.model import Adapter, ReplicaPolicy, Resident, ResidentState, Selector, Snapshot

GroupKey = tuple[str, str, Selector]


class Fleet:
    """All accounts of one round: pods in the order of their keys, adapters in the order in which they are served."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.pods = [PodLedger(pod) for pod in sorted(snapshot.pods, key=lambda pod: pod.key)]
        self._groups: dict[GroupKey, Group] = {}
        self.allotments: dict[str, Allotment] = {
            adapter.key: self._open(adapter) for adapter in sorted(snapshot.adapters, key=order_of)
        }
        self.lowest_priority = min((adapter.priority for adapter in snapshot.adapters), default=0)
        self.unwanted: list[tuple[PodLedger, Resident]] = []
        for ledger in self.pods:
            self._enter(ledger)

    def blocks(self, allotment: Allotment, ledger: PodLedger) -> bool:
        """Whether an engine name that a load would need is still listed on the pod."""
        adapter = allotment.adapter
        beside = adapter.key in ledger.pod.side_by_side
        for resident in ledger.pod.residents:
            if not beside and (resident.name == adapter.name or resident.adapter == adapter.key):
                return True
            # whoever had this name and version before has the versioned name too, which begins with the public one
            heir = resident.owned and resident.adapter not in self.allotments and resident.name.startswith(adapter.name)
            if (heir or resident.adapter == adapter.key) and resident.version == adapter.version:
                return True
        return False

    def _open(self, adapter: Adapter) -> Allotment:
        key = (adapter.namespace, adapter.base_model, adapter.selector)
        group = self._groups.get(key)
        if group is None:
            matching = [ledger for ledger in self.pods if first_refusal(DECLARED, adapter, ledger) is None]
            group = Group(
                frozenset(ledger.key for ledger in matching),
                tuple(ledger for ledger in matching if ledger.sends),
                tuple(ledger for ledger in matching if ledger.target),
            )
            self._groups[key] = group
        wanted = wanted_copies(adapter, group)
        demand = 1.0 if adapter.demand is None else adapter.demand
        return Allotment(adapter, group, wanted, demand / max(wanted, 1))

    def _enter(self, ledger: PodLedger) -> None:
        """Sort the residents of one pod to the adapters that they are copies of."""
        found: dict[str, list[Resident]] = {}
        for resident in ledger.pod.residents:
            if not resident.owned:
                continue
            allotment = self.allotments.get(resident.adapter or "")
            if allotment is None:
                self.unwanted.append((ledger, resident))
            elif resident.state is ResidentState.UNLOADING:
                if ledger.counts:
                    key = ledger.key
                    allotment.leaving[key] = (*allotment.leaving.get(key, ()), resident)
            else:
                found.setdefault(allotment.adapter.key, []).append(resident)
        if ledger.counts:
            for key in sorted(found):
                allotment = self.allotments[key]
                allotment.keep(copy_of(allotment, ledger, found[key]))


def order_of(adapter: Adapter) -> tuple[int, int, str]:
    """Who is served first: the highest priority, then the oldest."""
    return -adapter.priority, adapter.age_rank, adapter.key


def wanted_copies(adapter: Adapter, group: Group) -> int:
    """How many copies there should be. Auto does not follow demand yet: it is `replicas`, within `max_replicas`."""
    if adapter.replica_policy is ReplicaPolicy.ALL_PODS:
        return len(group.ready) if adapter.replicas > 0 else 0
    if adapter.replica_policy is ReplicaPolicy.AUTO and adapter.max_replicas is not None:
        return min(adapter.replicas, adapter.max_replicas)
    return adapter.replicas


def copy_of(allotment: Allotment, ledger: PodLedger, residents: Iterable[Resident]) -> Copy:
    """One copy of several residents (old and new version side by side, say); at least one resident."""
    ranked = sorted(residents, key=lambda r: (r.state is not ResidentState.LOADED, r.name))
    current = [resident for resident in ranked if resident.version == allotment.adapter.version]
    old = [resident for resident in ranked if resident.version != allotment.adapter.version]
    return Copy(
        allotment.adapter,
        ledger,
        bytes=(current or old)[0].bytes,
        share=allotment.share,
        current=current[0] if current else None,
        old=old[0] if old else None,
        extras=(*current[1:], *old[1:]),
    )
