"""Finds places for the copies that an adapter lacks: in free room first, then in that of lower priorities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from lora_scheduler import preemption
from lora_scheduler.allotment import Allotment
from lora_scheduler.filters import loadable
from lora_scheduler.ledger import Copy, PodLedger
from lora_scheduler.model import PreemptionPolicy, UnloadCause
from lora_scheduler.scorers import Choice, Scorer, best


def grow(allotment: Allotment) -> None:
    """Where an old version is to be exchanged for a larger one, reserve the difference, or look for another place."""
    for copy in list(allotment.kept.values()):
        if copy.outdated and copy.ledger.target:
            if copy.ledger.fits_later(allotment.adapter.bytes, copy):
                copy.ledger.resize(copy, allotment.adapter.bytes)
            else:
                allotment.postpone(copy)


def options(allotment: Allotment) -> list[PodLedger]:
    """The pods that may get a copy if they have room."""
    return [
        ledger
        for ledger in allotment.group.targets
        if ledger.key not in allotment.kept and loadable(allotment.adapter, ledger)
    ]


def fill(
    allotment: Allotment, allotments: Mapping[str, Allotment], scorers: Sequence[Scorer], *, preempt: bool
) -> None:
    """Give the adapter the copies that it lacks, as far as there is room."""
    if not allotment.everywhere and len(allotment.kept) >= allotment.wanted:
        return
    adapter = allotment.adapter
    open_pods = options(allotment)
    while _lacks(allotment, open_pods):
        fitting = [pod for pod in open_pods if pod.fits_later(adapter.bytes, allotment.pending.get(pod.key))]
        if not fitting:
            break
        ledger = best(choice_of(allotment, fitting), fitting, scorers)
        open_pods.remove(ledger)
        allot(allotment, ledger)
    if preempt and adapter.preemption is PreemptionPolicy.LOWER_PRIORITY:
        _preempt(allotment, allotments, open_pods, scorers)


def choice_of(allotment: Allotment, candidates: Sequence[PodLedger]) -> Choice:
    """What the scorers need to know about a decision for this adapter."""
    version = allotment.adapter.version
    exchanging = {
        key for key, leaving in allotment.leaving.items() if any(resident.version != version for resident in leaving)
    }
    choice = Choice(
        allotment.adapter,
        candidates,
        returning=exchanging | allotment.dropped.keys() | allotment.pending.keys(),
        familiar=allotment.adapter.previous_pods,
    )
    choice.count([copy.ledger for copy in allotment.kept.values()])
    return choice


def allot(allotment: Allotment, ledger: PodLedger) -> Copy:
    """Give the adapter a place on the pod, counting on a copy that is there already if one is."""
    adapter, key = allotment.adapter, ledger.key
    copy = allotment.pending.pop(key, None)
    if copy is not None:
        copy.ledger.release(copy)
    else:
        copy = allotment.dropped.pop(key, None) or Copy(adapter, ledger, adapter.bytes, allotment.share)
    if copy.current is None:
        copy.bytes = adapter.bytes
    allotment.keep(copy)
    return copy


def _lacks(allotment: Allotment, open_pods: Sequence[PodLedger]) -> bool:
    return bool(open_pods) and (allotment.everywhere or len(allotment.kept) < allotment.wanted)


def _preempt(
    allotment: Allotment,
    allotments: Mapping[str, Allotment],
    open_pods: list[PodLedger],
    scorers: Sequence[Scorer],
) -> None:
    adapter = allotment.adapter
    prices: dict[str, preemption.Cost] = {}
    for ledger in open_pods if _lacks(allotment, open_pods) else ():
        lower = preemption.lower_priority(ledger, adapter.priority)
        cost = preemption.cheapest(lower, *ledger.shortage(adapter.bytes, allotment.pending.get(ledger.key)))
        if cost is not None:
            prices[ledger.key] = cost
    left = [ledger for ledger in open_pods if ledger.key in prices]
    while _lacks(allotment, left):
        lowest = min(prices[ledger.key] for ledger in left)
        equal = [ledger for ledger in left if prices[ledger.key] == lowest]
        ledger = best(choice_of(allotment, equal), equal, scorers)
        left.remove(ledger)
        needed = ledger.shortage(adapter.bytes, allotment.pending.get(ledger.key))
        lower = preemption.lower_priority(ledger, adapter.priority)
        for copy in preemption.victims(lower, *needed, allotments):
            allotments[copy.adapter.key].evict(copy, UnloadCause.PREEMPTED, adapter.key)
        allot(allotment, ledger)
