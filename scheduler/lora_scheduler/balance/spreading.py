"""Spreads replicas again that had to be closer together, once there is room in another domain: when a zone is back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping

from lora_scheduler.allotment import Allotment
from lora_scheduler.balance.rebalancing import Rebalancing
from lora_scheduler.balance.shifting import free_slots
from lora_scheduler.fleet import Fleet
from lora_scheduler.ledger import PodLedger, Replica
from lora_scheduler.model import YIELDING


def respread(fleet: Fleet, moves: Rebalancing) -> None:
    """Begin moves from the most crowded domain to one that has at least two replicas less."""
    places: dict[tuple[int, str], Places] = {}
    unused: dict[tuple[int, str], Places] = {}
    clearing = fleet.lowest_priority < YIELDING
    for allotment in fleet.close_together():
        if moves.budget <= 0:
            return
        kind = id(allotment.group), allotment.adapter.topology_key
        if kind not in places:
            places[kind] = Places(allotment.group.targets, allotment.adapter.topology_key)
        found = _best_move(allotment, places[kind], moves, moves.takes)
        if found is not None:
            moves.move(*found)
        elif clearing:
            if kind not in unused:
                unused[kind] = Places(allotment.group.targets, allotment.adapter.topology_key, full=True)
            found = _best_move(allotment, unused[kind], moves, moves.could_take)
            if found is not None:
                moves.make_room(*found)


class Places:
    """Where the pods of a group stand that had a free slot when this round first asked: only fewer have one later. With
    `full`, those too that had none."""

    def __init__(self, targets: Iterable[PodLedger], topology_key: str, *, full: bool = False) -> None:
        self._open: dict[str, list[PodLedger]] = {}
        for pod in targets:
            if full or free_slots(pod) > 0:
                self._open.setdefault(pod.domain(topology_key), []).append(pod)

    def with_at_most(self, count: int, counts: Mapping[str, int]) -> Iterator[PodLedger]:
        """The pods of the domains that have no more than so many replicas."""
        for domain, pods in self._open.items():
            if counts.get(domain, 0) <= count:
                yield from pods


def _best_move(
    allotment: Allotment, places: Places, moves: Rebalancing, takes: Callable[[Replica, PodLedger], bool]
) -> tuple[Replica, PodLedger] | None:
    topology_key = allotment.adapter.topology_key
    domains = {key: replica.ledger.domain(topology_key) for key, replica in allotment.kept.items()}
    counts = Counter(domains.values())
    most = max(counts.values())
    if most < 2:
        return None
    replicas = [replica for key, replica in allotment.kept.items() if counts[domains[key]] == most]
    replica = max(replicas, key=lambda c: (c.ledger.load, c.ledger.key))
    if not moves.at_rest(replica):
        return None
    possible = [pod for pod in places.with_at_most(most - 2, counts) if takes(replica, pod)]
    if not possible:
        return None
    return replica, min(possible, key=lambda pod: (counts[pod.domain(topology_key)], pod.load, pod.key))
