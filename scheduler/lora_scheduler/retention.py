"""Which of an adapter's replicas stay: first among them those that serve, and nothing goes that is still needed."""

from __future__ import annotations

from collections import Counter

from lora_scheduler.allotment import Allotment
from lora_scheduler.filters import keeps, loadable
from lora_scheduler.ledger import Replica
from lora_scheduler.rendezvous import weight


def bar(allotment: Allotment) -> None:
    """Set those replicas aside that may not stay where they are. To be done for all adapters before any is asked which
    of the others it can do without: what is set aside counts for no load."""
    yields = allotment.adapter.idle
    for replica in list(allotment.kept.values()):
        stays = replica.ledger.key in allotment.group.matching
        if not stays or (yields and (replica.current is None or not keeps(replica))):
            allotment.drop(replica)
        elif not keeps(replica):
            allotment.postpone(replica)


def retain(allotment: Allotment, leaves: str | None = None) -> None:
    """Sort the replicas that were found into kept, pending and dropped. `leaves`: the pod that one of them is to
    leave."""
    barred = list(allotment.pending.values())
    surplus = [] if allotment.everywhere else _surplus(allotment, list(allotment.kept.values()), leaves)
    for replica in surplus:
        allotment.postpone(replica)
    if allotment.pending:
        _give_up(allotment, barred)


def _give_up(allotment: Allotment, barred: list[Replica]) -> None:
    """Drop what is pending, except as many serving replicas as are still needed.

    A surplus replica is needed while fewer than wanted serve, or while the only other one has its update before it. One
    that is barred from its pod (most often since the new version is) is needed until the wanted version serves in the
    wanted number.
    """
    kept = allotment.kept.values()
    wanted = _needed(allotment)
    only_one_is_outdated = wanted > 0 and len(kept) == 1 and all(replica.outdated for replica in kept)
    surplus_needed = max(wanted - sum(replica.serving for replica in kept), int(only_one_is_outdated))
    barred_needed = wanted - sum(replica.serving_current for replica in kept)
    for replica in sorted(allotment.pending.values(), key=lambda c: (tier(c), c in barred, c.ledger.key)):
        if replica.serving and (barred_needed if replica in barred else surplus_needed) > 0:
            surplus_needed -= 1
            barred_needed -= 1
        else:
            allotment.drop(replica)


def tier(replica: Replica) -> int:
    """The lower, the rather it stays: the wanted version before another, what is there before what is expected."""
    if not replica.ledger.sends:
        return 4
    if replica.current is not None:
        return 0 if replica.serving_current else 1
    return 2 if replica.serving else 3


def _needed(allotment: Allotment) -> int:
    """How many must serve before others may go."""
    if not allotment.everywhere:
        return allotment.wanted
    free = sum(
        ledger.key not in allotment.kept and loadable(allotment.adapter, ledger) for ledger in allotment.group.targets
    )
    return max(len(allotment.kept) + free, 1)


def _surplus(allotment: Allotment, replicas: list[Replica], leaves: str | None) -> list[Replica]:
    """Those beyond the wanted number: the least useful ones, then the one whose move is remembered, then those that
    balance and spread can do without.

    A replica of the wanted version that is still on its way counts for as much as one that serves: nothing but this
    tells that it is to take over from the other one, where nobody remembers the move.
    """
    excess = len(replicas) - allotment.wanted
    if excess <= 0:
        return []
    left = sorted(replicas, key=lambda replica: replica.ledger.key)
    domains = Counter(_domain(replica) for replica in left)
    surplus: list[Replica] = []
    for _ in range(excess):
        last = max(_usefulness(replica) for replica in left)
        worst = max(
            (replica for replica in left if _usefulness(replica) == last),
            key=lambda c: (
                c.ledger.key == leaves,
                domains[_domain(c)],
                c.ledger.load,
                tier(c),
                -weight(c.adapter.key, c.ledger.key),
            ),
        )
        left.remove(worst)
        domains[_domain(worst)] -= 1
        surplus.append(worst)
    return surplus


def _usefulness(replica: Replica) -> int:
    """As `tier`, once everything that is on its way has arrived."""
    return tier(replica) or 1


def _domain(replica: Replica) -> str:
    return replica.ledger.domain(replica.adapter.topology_key)
