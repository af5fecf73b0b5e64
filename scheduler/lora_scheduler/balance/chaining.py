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
from lora_scheduler.ledger import Copy, PodLedger

if TYPE_CHECKING:
    from lora_scheduler.balance.rebalancing import Rebalancing

COPIES_TRIED, PODS_TRIED = 8, 16  # hot replicas of one pod, and cool pods for each
COLD = 0.25  # of the share of the hot replica


@dataclass(frozen=True, slots=True)
class Chain:
    """`cold` goes to `pod`, so that a replica of `awaiting` can come to where it was."""

    cold: Copy
    pod: PodLedger
    awaiting: str


def first_step(
    pod: PodLedger, copies: Sequence[Copy], loads: Loads, high: float, worth_it: float, moves: Rebalancing
) -> Chain | None:
    """The first step of a chain that relieves the pod; no pod is to have more load than `high` after it."""
    cool = loads.cooler(high, full=True)
    hot = [copy for copy in copies if copy.share > worth_it]
    # what leaves a cool pod may come to the hot one: in two steps this exchanges two replicas for which neither pod has
    # room at a time
    takers = [*loads.cooler(high), pod]
    for copy in sorted(hot, key=lambda one: (-one.share, one.adapter.key))[:COPIES_TRIED] if cool else ():
        for other in [one for one in cool if one.load + copy.share <= high][:PODS_TRIED]:
            if other.key in moves.closed or not moves.shifting.may_go(copy, other):
                continue
            found = _cold(copy, other, [one for one in takers if one is not other], high, worth_it, moves)
            if found is not None:
                return found
    return None


def _cold(
    hot: Copy, pod: PodLedger, takers: Sequence[PodLedger], high: float, worth_it: float, moves: Rebalancing
) -> Chain | None:
    """The smallest replica on the pod whose move makes enough room there."""
    needed = hot.adapter.bytes - free_bytes(pod)
    enough = [copy for copy in pod.copies.values() if copy.bytes >= needed and copy.share <= hot.share * COLD]
    for copy in sorted(enough, key=lambda one: (one.bytes, one.adapter.key)):
        if copy.adapter.demand is None or not moves.at_rest(copy):
            continue
        for other in takers:
            fits = hot.share - copy.share > worth_it if other is hot.ledger else other.load + copy.share <= high
            if fits and moves.takes(copy, other):
                return Chain(copy, other, hot.adapter.key)
    return None
