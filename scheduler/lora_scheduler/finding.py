"""What residents are to an adapter: its replicas, as they were found on the pods, before anything is decided."""

from __future__ import annotations

from collections.abc import Iterable

from lora_scheduler.allotment import Allotment, Order, own
from lora_scheduler.ledger import PodLedger, Replica
from lora_scheduler.model import Adapter, Pod, Resident, ResidentState

Replicas = dict[str, tuple[Resident, ...]]


def enter_found(allotment: Allotment, ledger: PodLedger, residents: tuple[Resident, ...]) -> bool:
    """Enter what the adapter has on one pod; whether that is as it should be, so that no step would touch it."""
    adapter = allotment.adapter
    if len(residents) == 1 and residents[0].version == adapter.version:
        resident = residents[0]
        if resident.state is not ResidentState.UNLOADING:
            allotment.enter(Replica(adapter, ledger, resident.bytes, allotment.share, resident))
            return (
                ledger.key in allotment.group.matching
                and adapter.key not in ledger.pod.excluded
                and adapter.rank <= ledger.pod.max_rank
            )
    leaving = tuple(resident for resident in residents if resident.state is ResidentState.UNLOADING)
    staying = [resident for resident in residents if resident.state is not ResidentState.UNLOADING]
    if leaving:
        allotment.leaving = own(allotment.leaving)
        allotment.leaving[ledger.key] = leaving
    if staying:
        allotment.enter(replica_of(allotment, ledger, staying))
    return False


def replicas_on(pod: Pod) -> Replicas:
    """Our residents of a pod by adapter; those of no adapter under the empty key."""
    found: Replicas = {}
    for resident in pod.residents:
        if resident.owned:
            key = resident.adapter or ""
            found[key] = (*found.get(key, ()), resident)
    return found


def order_of(adapter: Adapter, share: float) -> Order:
    """Who is served first: the highest priority, then whose replicas get the most requests (where that is unknown, all
    are alike), then the oldest. Largest shares first is what makes loads even (Graham's rule)."""
    return -adapter.effective_priority, -share if adapter.demand is not None else 0.0, adapter.age_rank, adapter.key


def replica_of(allotment: Allotment, ledger: PodLedger, residents: Iterable[Resident]) -> Replica:
    """One replica of several residents (old and new version side by side, say); at least one resident."""
    ranked = sorted(residents, key=lambda r: (r.state is not ResidentState.LOADED, r.name))
    current = [resident for resident in ranked if resident.version == allotment.adapter.version]
    old = [resident for resident in ranked if resident.version != allotment.adapter.version]
    return Replica(
        allotment.adapter,
        ledger,
        bytes=(current or old)[0].bytes,
        share=allotment.share,
        current=current[0] if current else None,
        old=old[0] if old else None,
        extras=(*current[1:], *old[1:]),
    )
