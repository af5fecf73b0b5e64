"""How many copies that serve may be on their way to another pod at a time, and for what first."""

from __future__ import annotations

from lora_scheduler.balance.loads import Loads, by_base_model
from lora_scheduler.balance.rebalancing import Rebalancing, rebalance
from lora_scheduler.balance.shifting import Shifting
from lora_scheduler.balance.spreading import respread
from lora_scheduler.fleet import Fleet
from lora_scheduler.model import Policy

MOVES, PODS_PER_MOVE = 2, 50  # by default so many, and one more for so many pods


def move(fleet: Fleet, shifting: Shifting, policy: Policy) -> None:
    """Begin as many moves as are allowed beside those that are under way: for spread, then for even loads."""
    allowed = MOVES + len(fleet.pods) // PODS_PER_MOVE if policy.max_moves is None else policy.max_moves
    under_way = sum(
        sum(not copy.outdated for copy in allotment.pending.values())
        for allotment in fleet.worked()
        if allotment.pending
    )
    moves = Rebalancing(shifting, allowed - under_way)
    if moves.budget > 0:
        respread(fleet, moves)
    if policy.rebalance_epsilon is None:
        return
    for alike in by_base_model(fleet.pods).values():
        if moves.budget > 0 and len(alike) > 1:
            rebalance(Loads(alike), policy.rebalance_epsilon, moves)
