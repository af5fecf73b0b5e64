"""Moves copies that serve from pods with too much load, and from crowded domains, a few at a time.

A move is nothing that anybody remembers: the plan keeps the new copy instead of the old one, which serves until the new
one does. While that is being loaded, and after, the next rounds find one copy too many, and give up the one on the pod
with the larger load or in the more crowded domain (retention): hence a copy only moves to where that is the other one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lora_scheduler.allotment import Allotment
from lora_scheduler.balance.loads import Loads, by_base_model
from lora_scheduler.balance.shifting import Shifting, free_bytes, free_slots
from lora_scheduler.ledger import Copy, PodLedger
from lora_scheduler.model import Policy, Reason, ReplicaPolicy
from lora_scheduler.placement import allot
from lora_scheduler.steps import start

MOVES, PODS_PER_MOVE = 2, 50  # by default so many at a time, and one more for so many pods
SMALLEST_SHARE = 0.1  # of what is tolerated above the mean: moving less is not worth a load


@dataclass(slots=True)
class Rebalancing:
    """The moves of one round: how many more may begin, and with what they are made."""

    shifting: Shifting
    budget: int

    def ready_to_move(self, copy: Copy) -> bool:
        """Whether the adapter is at rest, and nothing speaks against loading it elsewhere."""
        allotment = self.shifting.fleet.allotments[copy.adapter.key]
        return (
            copy.serving_current
            and not allotment.everywhere
            and copy.adapter.replica_policy is not ReplicaPolicy.AUTO
            and len(allotment.kept) == allotment.wanted
            and not (allotment.pending or allotment.dropped or allotment.evicted or allotment.leaving)
            and all(other.serving_current for other in allotment.kept.values())
            and not any(
                pod.pod.excluded.get(copy.adapter.key, (None, ""))[0] is Reason.LOAD_FAILED
                for pod in allotment.group.targets
            )
        )

    def takes(self, copy: Copy, pod: PodLedger) -> bool:
        """Whether the other pod can load it at once."""
        return free_slots(pod) > 0 and free_bytes(pod) >= copy.adapter.bytes and self.shifting.may_go(copy, pod)

    def move(self, copy: Copy, pod: PodLedger) -> None:
        """Begin to load a copy there, for which this one goes later."""
        allotment = self.shifting.fleet.allotments[copy.adapter.key]
        allotment.postpone(copy)
        allot(allotment, pod)
        start(allotment, self.shifting.fleet, self.shifting.steps)
        self.budget -= 1


def rebalance(shifting: Shifting, pods: Sequence[PodLedger], policy: Policy, worked: Sequence[Allotment]) -> None:
    """Begin as many moves as are worth it and allowed beside those that are under way."""
    epsilon = policy.rebalance_epsilon
    if epsilon is None:
        return
    allowed = MOVES + len(pods) // PODS_PER_MOVE if policy.max_moves is None else policy.max_moves
    under_way = sum(len(a.pending) for a in worked if a.pending and not any(c.outdated for c in a.pending.values()))
    moves = Rebalancing(shifting, allowed - under_way)
    for alike in by_base_model(pods).values():
        if moves.budget > 0 and len(alike) > 1:
            _relieve(Loads(alike), epsilon, moves)


def _relieve(loads: Loads, epsilon: float, moves: Rebalancing) -> None:
    limit = loads.ideal * (1 + epsilon)
    for pod in loads.above(limit):
        while moves.budget > 0 and pod.load > limit:
            found = next(_moves(pod, loads, epsilon, moves), None)
            if found is None:
                break
            copy, other = found
            changed = (pod.load, pod), (other.load, other)
            moves.move(copy, other)
            loads.shifted(changed)


def _moves(pod: PodLedger, loads: Loads, epsilon: float, moves: Rebalancing) -> Iterator[tuple[Copy, PodLedger]]:
    """Best first: a copy just large enough to bring the pod below the limit, or else as large as possible, and the
    least loaded pod that can take it without coming near the limit itself."""
    excess = pod.load - loads.ideal * (1 + epsilon)
    high = loads.ideal * (1 + epsilon / 2)
    worth_it = loads.ideal * epsilon * SMALLEST_SHARE
    copies = [copy for copy in pod.copies.values() if copy.share > worth_it and copy.adapter.demand is not None]
    copies.sort(key=lambda c: (c.share < excess, c.share if c.share >= excess else -c.share, c.adapter.key))
    for copy in copies:
        if not moves.ready_to_move(copy):
            continue
        for other in loads.least():
            if other.load + copy.share > high or other.load + copy.share >= pod.load:
                break
            if moves.takes(copy, other):
                yield copy, other
