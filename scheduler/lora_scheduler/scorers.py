"""What makes one allowed pod better than another: small pure functions, lower is better.

A policy is an order of these: the first decides, the next among those that it finds equal, and so on. Each is asked for
all pods that are left at once, which is several times faster than one by one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from lora_scheduler.ledger import UNLIMITED, PodLedger
from lora_scheduler.model import Adapter
from lora_scheduler.rendezvous import weight
from lora_scheduler.topology import node_of, zone_of

DECIMALS = 6  # sums of shares in another order must not count as different loads


@dataclass(slots=True, eq=False)
class Choice:
    """One decision: the adapter, what it has already, and the pods that it may go to.

    `returning` and `familiar` are pods where a replica is, or just was: going there moves nothing. `room_per_slot` is
    the free memory per free slot of all pods that come into question, in bytes; that of the candidates if not given.
    """

    adapter: Adapter
    candidates: Sequence[PodLedger]
    returning: Collection[str] = ()
    familiar: Collection[str] = ()
    domains: dict[str, int] = field(default_factory=dict)
    nodes: dict[str, int] = field(default_factory=dict)
    zones: dict[str, int] = field(default_factory=dict)
    room_per_slot: float | None = None

    def count(self, held: Collection[PodLedger]) -> None:
        """Note where the adapter's other replicas are."""
        for ledger in held:
            for counts, place in (
                (self.domains, ledger.domain(self.adapter.topology_key)),
                (self.nodes, node_of(ledger.pod)),
                (self.zones, zone_of(ledger.pod)),
            ):
                counts[place] = counts.get(place, 0) + 1


# the scores of the given pods, in their order; None if the scorer finds no difference between them
Scorer = Callable[[Choice, Sequence[PodLedger]], Sequence[float] | None]


def movement(choice: Choice, pods: Sequence[PodLedger]) -> Sequence[float] | None:
    """0 where a replica is or is being exchanged, 1 where one was last, 2 elsewhere."""
    if not choice.returning and not choice.familiar:
        return None
    return [0 if pod.key in choice.returning else 1 if pod.key in choice.familiar else 2 for pod in pods]


def replicas_in_domain(choice: Choice, pods: Sequence[PodLedger]) -> Sequence[float] | None:
    topology_key, domains = choice.adapter.topology_key, choice.domains
    return [domains.get(pod.domain(topology_key), 0) for pod in pods] if domains else None


def replicas_on_node(choice: Choice, pods: Sequence[PodLedger]) -> Sequence[float] | None:
    return [choice.nodes.get(node_of(pod.pod), 0) for pod in pods] if choice.nodes else None


def replicas_in_zone(choice: Choice, pods: Sequence[PodLedger]) -> Sequence[float] | None:
    return [choice.zones.get(zone_of(pod.pod), 0) for pod in pods] if choice.zones else None


def delay(choice: Choice, pods: Sequence[PodLedger]) -> Sequence[float]:
    """0 where the load can start at once, 1 where something has to leave first."""
    size = choice.adapter.bytes
    return [0 if pod.fits_now(size) else 1 for pod in pods]


def expected_load(choice: Choice, pods: Sequence[PodLedger]) -> Sequence[float]:
    """Requests per second that the pod is expected to get already."""
    return [round(pod.load, DECIMALS) for pod in pods]


def uneven_room(choice: Choice, pods: Sequence[PodLedger]) -> Sequence[float]:
    """How far the pod's free memory would be from the fleet's mean per free slot, in bytes.

    First-fit and best-fit by size leave slots without memory and memory without slots; even room per slot does not.
    """
    mean = choice.room_per_slot
    if mean is None:
        budgeted = [pod for pod in choice.candidates if pod.byte_limit != UNLIMITED]
        slots = sum(pod.slot_limit - pod.later_slots for pod in budgeted)
        mean = sum(pod.byte_limit - pod.later_bytes for pod in budgeted) / max(slots, 1)
    side = -1 if choice.adapter.bytes > mean else 1
    return [
        0
        if pod.byte_limit == UNLIMITED
        else side * (pod.byte_limit - pod.later_bytes - mean * (pod.slot_limit - pod.later_slots))
        for pod in pods
    ]


def free_slots(choice: Choice, pods: Sequence[PodLedger]) -> Sequence[float]:
    return [pod.slot_limit - pod.later_slots for pod in pods]


def free_memory(choice: Choice, pods: Sequence[PodLedger]) -> Sequence[float]:
    return [0 if pod.byte_limit == UNLIMITED else pod.byte_limit - pod.later_bytes for pod in pods]


def residents(choice: Choice, pods: Sequence[PodLedger]) -> Sequence[float]:
    return [pod.later_slots for pod in pods]


def wasted_rank(choice: Choice, pods: Sequence[PodLedger]) -> Sequence[float]:
    """An adapter costs a whole slot of the pod's max_lora_rank, however small its own rank is."""
    return [pod.pod.max_rank - choice.adapter.rank for pod in pods]


def best(choice: Choice, candidates: Sequence[PodLedger], scorers: Sequence[Scorer]) -> PodLedger:
    """The best of the candidates (at least one), the rendezvous hash deciding among equals."""
    left = candidates
    for scorer in scorers:
        if len(left) == 1:
            break
        scores = scorer(choice, left)
        if scores is not None:
            lowest = min(scores)
            left = [pod for pod, score in zip(left, scores, strict=True) if score == lowest]
    return left[0] if len(left) == 1 else max(left, key=lambda pod: weight(choice.adapter.key, pod.key))
