"""Moves in two steps: a cold replica leaves a cool pod, so that a hot one finds the memory there that it lacks.

The cool pods of a fleet that has changed for a while often have slots but no memory left, full of large adapters that
hardly anybody asks for. Only the first step is begun here: once the cold replica has left, the pod that has too much
load finds the room by itself. The move is remembered (model.Places.moves), as retention would undo it otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lora_scheduler.balance.loads import Loads
from lora_scheduler.balance.shifting import free_bytes
from lora_scheduler.ledger import PodLedger, Replica

if TYPE_CHECKING:
    from lora_scheduler.balance.rebalancing import Rebalancing

REPLICAS_TRIED, PODS_TRIED = 8, 16  # hot replicas of one pod, and cool pods for each
COLD = 0.25  # of the share of the hot replica


@dataclass(frozen=True, slots=True)
class Chain:
    """`cold` goes to `pod`, so that a replica of `awaiting` can come to where it was."""

    cold: Replica
    pod: PodLedger
    awaiting: str


def first_step(
    pod: PodLedger, replicas: Sequence[Replica], loads: Loads, high: float, worth_it: float, moves: Rebalancing
) -> Chain | None:
    """The first step of a chain that relieves the pod; no pod is to have more load than `high` after it."""
    cool = loads.cooler(high, full=True)
    hot = [replica for replica in replicas if replica.share > worth_it]
    # what leaves a cool pod may come to the hot one: in two steps this exchanges two replicas for which neither pod has
    # room at a time
    takers = [*loads.cooler(high), pod]
    for replica in sorted(hot, key=lambda one: (-one.share, one.adapter.key))[:REPLICAS_TRIED] if cool else ():
        for other in [one for one in cool if one.load + replica.share <= high][:PODS_TRIED]:
            if other.key in moves.closed or not moves.shifting.may_go(replica, other):
                continue
            found = _cold(replica, other, [one for one in takers if one is not other], high, worth_it, moves)
            if found is not None:
                return found
    return None


def _cold(
    hot: Replica, pod: PodLedger, takers: Sequence[PodLedger], high: float, worth_it: float, moves: Rebalancing
) -> Chain | None:
    """The smallest replica on the pod whose move makes enough room there."""
    needed = hot.adapter.bytes - free_bytes(pod)
    enough = [
        replica for replica in pod.replicas.values() if replica.bytes >= needed and replica.share <= hot.share * COLD
    ]
    for replica in sorted(enough, key=lambda one: (one.bytes, one.adapter.key)):
        if replica.adapter.demand is None or not moves.at_rest(replica):
            continue
        for other in takers:
            fits = hot.share - replica.share > worth_it if other is hot.ledger else other.load + replica.share <= high
            if fits and moves.takes(replica, other):
                return Chain(replica, other, hot.adapter.key)
    return None
