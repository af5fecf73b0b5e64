"""Spreads copies again that had to be closer together, once there is room in another domain: when a zone is back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from lora_scheduler.allotment import Allotment
from lora_scheduler.balance.rebalancing import Rebalancing
from lora_scheduler.ledger import Copy, PodLedger
from lora_scheduler.topology import domain_of


def respread(allotments: Iterable[Allotment], moves: Rebalancing) -> None:
    """Begin moves from the most crowded domain to one that has at least two copies less."""
    crowded = [allotment for allotment in allotments if len(allotment.kept) > 1 and _is_crowded(allotment)]
    crowded.sort(key=lambda allotment: allotment.order)
    for allotment in crowded:
        if moves.budget <= 0:
            return
        found = _best_move(allotment, moves)
        if found is not None:
            moves.move(*found)


def _is_crowded(allotment: Allotment) -> bool:
    """Whether two copies share a domain; asked for every adapter in every round."""
    topology_key = allotment.adapter.topology_key
    domains = {domain_of(copy.ledger.pod, topology_key) for copy in allotment.kept.values()}
    return len(domains) < len(allotment.kept)


def _best_move(allotment: Allotment, moves: Rebalancing) -> tuple[Copy, PodLedger] | None:
    topology_key = allotment.adapter.topology_key

    def domain(pod: PodLedger) -> str:
        return domain_of(pod.pod, topology_key)

    counts = Counter([domain(copy.ledger) for copy in allotment.kept.values()])
    most = max(counts.values())
    copies = [copy for copy in allotment.kept.values() if counts[domain(copy.ledger)] == most]
    copy = max(copies, key=lambda c: (c.ledger.load, c.ledger.key))
    emptier = [pod for pod in allotment.group.targets if counts[domain(pod)] <= most - 2]
    if not emptier or not moves.at_rest(copy):
        return None
    possible = [pod for pod in emptier if moves.takes(copy, pod)]
    if not possible:
        return None
    return copy, min(possible, key=lambda pod: (counts[domain(pod)], pod.load, pod.key))
