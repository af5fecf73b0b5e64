"""Moves replicas that this plan has only just begun to load: nothing is there yet, so that it costs nothing."""

from __future__ import annotations

from dataclasses import dataclass

from lora_scheduler.allotment import Allotment
from lora_scheduler.filters import loadable
from lora_scheduler.fleet import Fleet
from lora_scheduler.ledger import PodLedger, Replica
from lora_scheduler.steps import Steps


@dataclass(frozen=True, slots=True)
class Shifting:
    """The accounts and steps of one round, as far as a replica may still be moved about in them."""

    fleet: Fleet
    steps: Steps

    def movable(self, pod: PodLedger) -> list[Replica]:
        """The replicas on the pod that could as well be loaded elsewhere, largest share first."""
        return [replica for replica in pod.by_share() if replica.begun]

    def may_go(self, replica: Replica, pod: PodLedger) -> bool:
        """Whether the replica may be on the other pod if it has room there, and is as far from its like as it is
        now."""
        allotment = self.fleet.allotments[replica.adapter.key]
        return (
            may_hold(allotment, pod)
            and spread_allows(allotment, replica, pod)
            and not self.fleet.blocks(allotment, pod)
        )

    def shift(self, replica: Replica, pod: PodLedger) -> None:
        """Load the replica there instead."""
        self.fleet.allotments[replica.adapter.key].relocate(replica, pod)
        pod.begin(replica)

    def cancel(self, replica: Replica) -> None:
        """Do not load the replica after all."""
        self.steps.cancel(replica)
        self.fleet.allotments[replica.adapter.key].cancel(replica)

    def swap(self, replica: Replica, other: Replica) -> None:
        """Load each of two replicas where the other would have been."""
        here, there = replica.ledger, other.ledger
        self.shift(replica, there)
        self.shift(other, here)


def may_hold(allotment: Allotment, pod: PodLedger) -> bool:
    """Whether a further replica may be on the pod, room aside."""
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


def spread_allows(allotment: Allotment, replica: Replica, pod: PodLedger) -> bool:
    """Whether moving one replica to the pod leaves the replicas at least as far apart."""
    if len(allotment.kept) == 1:
        return True
    topology_key = allotment.adapter.topology_key
    here, there = replica.ledger.domain(topology_key), pod.domain(topology_key)
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
