"""Moves copies that this plan has only just begun to load: nothing is there yet, so that it costs nothing."""

from __future__ import annotations

from dataclasses import dataclass

from lora_scheduler.allotment import Allotment
from lora_scheduler.filters import loadable
from lora_scheduler.fleet import Fleet
from lora_scheduler.ledger import Copy, PodLedger
from lora_scheduler.steps import Steps


@dataclass(frozen=True, slots=True)
class Shifting:
    """The accounts and steps of one round, as far as a copy may still be moved about in them."""

    fleet: Fleet
    steps: Steps

    def movable(self, pod: PodLedger) -> list[Copy]:
        """The copies on the pod that could as well be loaded elsewhere, largest share first."""
        return [copy for copy in pod.by_share() if copy.begun]

    def may_go(self, copy: Copy, pod: PodLedger) -> bool:
        """Whether the copy may be on the other pod if it has room there, and is as far from its like as it is now."""
        allotment = self.fleet.allotments[copy.adapter.key]
        return (
            may_hold(allotment, pod) and spread_allows(allotment, copy, pod) and not self.fleet.blocks(allotment, pod)
        )

    def shift(self, copy: Copy, pod: PodLedger) -> None:
        """Load the copy there instead."""
        self.fleet.allotments[copy.adapter.key].relocate(copy, pod)
        pod.begin(copy)

    def cancel(self, copy: Copy) -> None:
        """Do not load the copy after all."""
        self.steps.cancel(copy)
        self.fleet.allotments[copy.adapter.key].cancel(copy)

    def swap(self, copy: Copy, other: Copy) -> None:
        """Load each of two copies where the other would have been."""
        here, there = copy.ledger, other.ledger
        self.shift(copy, there)
        self.shift(other, here)


def may_hold(allotment: Allotment, pod: PodLedger) -> bool:
    """Whether a further copy may be on the pod, room aside."""
    key = pod.key
    return (
        pod.target
        and key in allotment.group.matching
        and key not in allotment.kept
        and key not in allotment.pending
        and key not in allotment.dropped
        and key not in allotment.evicted
        and key not in allotment.leaving
        and loadable(allotment.adapter, pod)
    )


def spread_allows(allotment: Allotment, copy: Copy, pod: PodLedger) -> bool:
    """Whether moving one copy to the pod leaves the copies at least as far apart."""
    if len(allotment.kept) == 1:
        return True
    topology_key = allotment.adapter.topology_key
    here, there = copy.ledger.domain(topology_key), pod.domain(topology_key)
    if here == there:
        return True
    domains = [other.ledger.domain(topology_key) for other in allotment.kept.values()]
    return domains.count(there) < domains.count(here)


def free_slots(pod: PodLedger) -> int:
    """Slots that are free both now and when everything planned has happened."""
    return pod.slot_limit - max(pod.now_slots, pod.later_slots)


def free_bytes(pod: PodLedger) -> int:
    """Memory that is free both now and when everything planned has happened."""
    return pod.byte_limit - max(pod.now_bytes, pod.later_bytes)
