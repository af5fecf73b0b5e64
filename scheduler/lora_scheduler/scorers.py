"""What makes one allowed pod better than another: small pure functions, lower is better.

A policy is an order of these: the first decides, the next among those that it finds equal, and so on.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from lora_scheduler.ledger import UNLIMITED, PodLedger
from lora_scheduler.model import Adapter
from lora_scheduler.rendezvous import weight
from lora_scheduler.topology import domain_of, node_of, zone_of

DECIMALS = 6  # sums of shares in another order must not count as different loads


@dataclass(slots=True, eq=False)
class Choice:
    """One decision: the adapter, what it has already, and the pods that it may go to.

    `returning` and `familiar` are pods where a copy is, or just was: going there moves nothing.
    """

    adapter: Adapter
    candidates: Sequence[PodLedger]
    returning: Collection[str] = ()
    familiar: Collection[str] = ()
    domains: dict[str, int] = field(default_factory=dict)
    nodes: dict[str, int] = field(default_factory=dict)
    zones: dict[str, int] = field(default_factory=dict)
    mean_room: float | None = None

    def count(self, held: Collection[PodLedger]) -> None:
        """Note where the adapter's other copies are."""
        for ledger in held:
            for counts, place in (
                (self.domains, domain_of(ledger.pod, self.adapter.topology_key)),
                (self.nodes, node_of(ledger.pod)),
                (self.zones, zone_of(ledger.pod)),
            ):
                counts[place] = counts.get(place, 0) + 1


Scorer = Callable[[Choice, PodLedger], float]


def movement(choice: Choice, ledger: PodLedger) -> float:
    """0 where a copy is or is being exchanged, 1 where one was last, 2 elsewhere."""
    if ledger.key in choice.returning:
        return 0
    return 1 if ledger.key in choice.familiar else 2


def copies_in_domain(choice: Choice, ledger: PodLedger) -> float:
    return choice.domains.get(domain_of(ledger.pod, choice.adapter.topology_key), 0) if choice.domains else 0


def copies_on_node(choice: Choice, ledger: PodLedger) -> float:
    return choice.nodes.get(node_of(ledger.pod), 0) if choice.nodes else 0


def copies_in_zone(choice: Choice, ledger: PodLedger) -> float:
    return choice.zones.get(zone_of(ledger.pod), 0) if choice.zones else 0


def delay(choice: Choice, ledger: PodLedger) -> float:
    """0 where the load can start at once, 1 where something has to leave first."""
    return 0 if ledger.fits_now(choice.adapter.bytes) else 1


def expected_load(choice: Choice, ledger: PodLedger) -> float:
    """Requests per second that the pod is expected to get already."""
    return round(ledger.load, DECIMALS)


def uneven_room(choice: Choice, ledger: PodLedger) -> float:
    """How far the pod's free memory would be from the fleet's mean per free slot, in bytes.

    First-fit and best-fit by size leave slots without memory and memory without slots; even room per slot does not.
    """
    if ledger.byte_limit == UNLIMITED:
        return 0
    if choice.mean_room is None:
        budgeted = [pod for pod in choice.candidates if pod.byte_limit != UNLIMITED]
        slots = sum(pod.slot_limit - pod.later_slots for pod in budgeted)
        choice.mean_room = sum(pod.byte_limit - pod.later_bytes for pod in budgeted) / max(slots, 1)
    free_slots = ledger.slot_limit - ledger.later_slots - 1
    free_bytes = ledger.byte_limit - ledger.later_bytes - choice.adapter.bytes
    return abs(free_bytes - choice.mean_room * free_slots)


def free_slots(choice: Choice, ledger: PodLedger) -> float:
    return ledger.slot_limit - ledger.later_slots


def free_memory(choice: Choice, ledger: PodLedger) -> float:
    return 0 if ledger.byte_limit == UNLIMITED else ledger.byte_limit - ledger.later_bytes


def residents(choice: Choice, ledger: PodLedger) -> float:
    return ledger.later_slots


def wasted_rank(choice: Choice, ledger: PodLedger) -> float:
    """An adapter costs a whole slot of the pod's max_lora_rank, however small its own rank is."""
    return ledger.pod.max_rank - choice.adapter.rank


def best(choice: Choice, candidates: Sequence[PodLedger], scorers: Sequence[Scorer]) -> PodLedger:
    """The best of the candidates (at least one), the rendezvous hash deciding among equals."""
    left = candidates
    for scorer in scorers:
        if len(left) == 1:
            break
        scores = [scorer(choice, ledger) for ledger in left]
        lowest = min(scores)
        left = [ledger for ledger, score in zip(left, scores, strict=True) if score == lowest]
    return left[0] if len(left) == 1 else max(left, key=lambda ledger: weight(choice.adapter.key, ledger.key))
