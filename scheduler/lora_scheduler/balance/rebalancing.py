"""Moves replicas that serve from pods with too much load, and from crowded domains, a few at a time.

A move is nothing that anybody remembers: the plan keeps the new replica instead of the old one, which serves until the
new one does. While that is being loaded, and after, the next rounds find one replica too many, and give up the one on
the pod with the larger load or in the more crowded domain (retention): hence a replica only moves to where that is the
other one.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from lora_scheduler.balance.chaining import Chain, first_step
from lora_scheduler.balance.loads import Loads
from lora_scheduler.balance.shifting import Shifting, free_bytes, free_slots
from lora_scheduler.clearing import clear, clearable
from lora_scheduler.ledger import PodLedger, Replica
from lora_scheduler.model import YIELDING, Obstacle, Overload, Reason
from lora_scheduler.placement import allot
from lora_scheduler.steps import start

SMALLEST_SHARE = 0.1  # of what is tolerated above the mean: moving less is not worth a load
CLEARLY_LESS = 0.99  # of the load of a pod: with no less on the other one, a replica could go to and fro
TAKEN_UP_TO = 0.9  # of what is tolerated: small changes of demand must not make a pod give up what it has just taken


@dataclass(slots=True)
class Rebalancing:
    """The moves of one round: how many more may begin, and with what they are made. `closed` are pods where room is
    being made for somebody else."""

    shifting: Shifting
    budget: int
    closed: set[str] = field(default_factory=set)
    remembers: bool = False  # whether the next round knows what is in `remembered`
    remembered: dict[str, tuple[str, str]] = field(default_factory=dict)  # see model.Places.moves
    failed: dict[str, list[PodLedger]] | None = None  # by adapter; worked out when it is asked for

    def at_rest(self, replica: Replica) -> bool:
        """Whether nothing is under way with the adapter, and nothing speaks against loading it elsewhere."""
        if replica.adapter.idle or not replica.serving_current:  # where it is does not matter, if nobody uses it
            return False
        allotment = self.shifting.fleet.allotments[replica.adapter.key]
        kept = allotment.kept
        if allotment.everywhere or len(kept) != allotment.wanted:
            return False
        # one more for a time must not make Auto want one more for good
        if allotment.wanted != allotment.most and not self.remembers:
            return False
        if allotment.pending or allotment.dropped or allotment.evicted or allotment.leaving:
            return False
        if len(kept) > 1 and not all(other.serving_current for other in kept.values()):
            return False
        failed = self._failed_on(replica.adapter.key)
        return not failed or not any(pod.target and pod.key in allotment.group.matching for pod in failed)

    def _failed_on(self, adapter: str) -> Sequence[PodLedger]:
        """Where loading failed of this adapter alone: where others failed too, the pod is to blame."""
        if self.failed is None:
            self.failed = {}
            for pod in self.shifting.fleet.pods:
                if not pod.pod.excluded:
                    continue
                keys = [key for key, (reason, _) in pod.pod.excluded.items() if reason is Reason.LOAD_FAILED]
                if len(keys) == 1:
                    self.failed.setdefault(keys[0], []).append(pod)
        return self.failed.get(adapter, ())

    def takes(self, replica: Replica, pod: PodLedger) -> bool:
        """Whether the other pod can load it at once."""
        if pod.key in self.closed:
            return False
        return free_slots(pod) > 0 and free_bytes(pod) >= replica.adapter.bytes and self.shifting.may_go(replica, pod)

    def could_take(self, replica: Replica, pod: PodLedger) -> bool:
        """Whether the other pod can load it once replicas that nobody uses have left."""
        allotments = self.shifting.fleet.allotments
        return clearable(pod, allotments[replica.adapter.key], allotments) and self.shifting.may_go(replica, pod)

    def make_room(self, replica: Replica, pod: PodLedger) -> None:
        """Let what nobody uses leave the pod: a later round finds the room, and moves the replica there."""
        allotments = self.shifting.fleet.allotments
        clear([pod], allotments[replica.adapter.key], allotments)
        self.budget -= 1

    def move(self, replica: Replica, pod: PodLedger) -> None:
        """Begin to load a replica there, for which this one goes later."""
        allotment = self.shifting.fleet.allotments[replica.adapter.key]
        if allotment.wanted != allotment.most:
            self.remembered.setdefault(replica.adapter.key, (replica.ledger.key, ""))
        allotment.postpone(replica)
        allot(allotment, pod)
        start(allotment, self.shifting.fleet, self.shifting.steps)
        self.budget -= 1

    def move_away(self, chain: Chain, loads: Loads) -> None:
        """Begin the first step of a chain."""
        left = chain.cold.ledger
        changed = (left.load, left), (chain.pod.load, chain.pod)
        self.closed.add(left.key)
        self.remembered[chain.cold.adapter.key] = left.key, chain.awaiting
        self.move(chain.cold, chain.pod)
        loads.shifted(changed)


def rebalance(loads: Loads, tolerated: float, moves: Rebalancing) -> list[Overload]:
    """Begin as many moves between pods of one base model as are worth it: where a load is more than so many requests
    per second above the ideal. The pods for which nothing more can be done now, and why."""
    limits = _Limits(
        least=loads.ideal + tolerated,
        high=loads.ideal + tolerated * TAKEN_UP_TO,
        worth_it=tolerated * SMALLEST_SHARE,
    )
    left: list[Overload] = []
    for pod in loads.above(limits.least):
        while pod.load > limits.least:
            replicas = [
                replica for replica in pod.by_share() if replica.adapter.demand is not None and moves.at_rest(replica)
            ]
            step = _best_step(pod, replicas, loads, limits, moves) if moves.budget > 0 and replicas else None
            # selectors may keep much load on few pods: what is above the limit there can still be divided
            less = replace(limits, high=pod.load * min(loads.ideal / limits.least, CLEARLY_LESS))
            if step is None and moves.budget > 0 and replicas:
                step = _best_step(pod, replicas, loads, less, moves)
            if step is None and moves.budget > 0 and replicas and moves.shifting.fleet.lowest_priority < YIELDING:
                later = _best_move(pod, replicas, loads, limits, moves.could_take, full=True)
                if later is not None:
                    moves.make_room(later.replica, later.pod)
                    break
            if step is None and moves.remembers and moves.budget > 0 and replicas:
                awaited = {awaiting for _, awaiting in moves.remembered.values()}
                if not awaited.isdisjoint(pod.replicas):
                    break  # room is being made for one of its replicas
                chain = first_step(pod, replicas, loads, limits.high, limits.worth_it, moves)
                chain = chain or first_step(pod, replicas, loads, less.high, limits.worth_it, moves)
                if chain is not None:
                    moves.move_away(chain, loads)
                    break
            if step is None:
                # where no demand is known, a load is a number of replicas, and nobody suffers from it
                if any(replica.adapter.demand is not None for replica in pod.replicas.values()):
                    left.append(_overload(pod, len(replicas), limits, moves))
                break
            changed = (pod.load, pod), (step.pod.load, step.pod)
            moves.move(step.replica, step.pod)
            if step.other is not None:
                moves.move(step.other, pod)
            loads.shifted(changed)
    return left


@dataclass(frozen=True, slots=True)
class _Limits:
    """In requests per second: pods above `least` give up replicas, none takes one that would bring it above `high`, and
    no load is worth less relief than `worth_it`."""

    least: float
    high: float
    worth_it: float


@dataclass(frozen=True, slots=True)
class _Step:
    replica: Replica
    pod: PodLedger
    relief: float
    other: Replica | None = None


def _overload(pod: PodLedger, movable: int, limits: _Limits, moves: Rebalancing) -> Overload:
    if moves.budget <= 0:
        obstacle, why = Obstacle.MOVES_UNDER_WAY, "as many moves are under way as are allowed at a time"
    elif movable:
        obstacle = Obstacle.NO_ROOM_ELSEWHERE
        why = f"no other pod can take one of its {movable} replicas that may move and still have clearly less"
    else:
        obstacle, why = Obstacle.NOTHING_TO_MOVE, f"none of its {len(pod.replicas)} replicas may move"
    message = f"{pod.load:.3g} requests per second are expected where {limits.least:.3g} are tolerated: {why}"
    return Overload(pod.key, pod.load, limits.least, obstacle, message)


def _best_step(
    pod: PodLedger, replicas: Sequence[Replica], loads: Loads, limits: _Limits, moves: Rebalancing
) -> _Step | None:
    """What brings the pod below the limit with the fewest loads, or else what relieves it most for each load."""
    move = _best_move(pod, replicas, loads, limits, moves.takes)
    excess = pod.load - limits.least
    if moves.budget < 2 or (move is not None and move.relief >= excess):
        return move
    exchange = _best_exchange(pod, replicas, loads, limits, moves)
    if exchange is None or (move is not None and 2 * move.relief >= min(exchange.relief, excess)):
        return move
    return exchange


def _best_move(
    pod: PodLedger,
    replicas: Sequence[Replica],
    loads: Loads,
    limits: _Limits,
    takes: Callable[[Replica, PodLedger], bool],
    *,
    full: bool = False,
) -> _Step | None:
    """A replica just large enough, or else as large as possible, to the least loaded pod that can take it."""
    excess = pod.load - limits.least
    coolest = loads.cooler(limits.high, full=full)
    for replica in sorted(replicas, key=lambda c: _by_relief(c.share, excess)) if coolest else ():
        if replica.share > limits.worth_it:
            highest = limits.high - replica.share
            cool = (other for other in coolest if other.load <= highest)
            pod_for_it = next((other for other in cool if takes(replica, other)), None)
            if pod_for_it is not None:
                return _Step(replica, pod_for_it, replica.share)
    return None


def _best_exchange(
    pod: PodLedger, replicas: Sequence[Replica], loads: Loads, limits: _Limits, moves: Rebalancing
) -> _Step | None:
    """Two replicas of different shares that change places, where both pods have room for both in the meantime.

    The next rounds decide about the larger share first (see finding.order_of) and find it on the less loaded pod, even
    with both replicas on both pods; after that, the pod that the smaller one came from must be the more loaded one.
    """
    if free_slots(pod) < 1:
        return None
    found: list[_Step] = []
    for other in loads.cooler(limits.high):
        apart, most = pod.load - other.load, limits.high - other.load
        shares = other.shares()
        for replica in replicas:
            less = min(replica.share - 2 * limits.worth_it, 2 * replica.share - apart)
            for back in other.by_share()[bisect_right(shares, -less) : bisect_right(shares, most - replica.share)]:
                if replica.adapter is not back.adapter and back.adapter.demand is not None:
                    found.append(_Step(replica, other, replica.share - back.share, back))
    excess = pod.load - limits.least
    found.sort(key=lambda step: _by_relief(step.relief, excess))
    for step in found:
        assert step.other is not None
        allotments = moves.shifting.fleet.allotments
        in_order = allotments[step.replica.adapter.key].order < allotments[step.other.adapter.key].order
        fits = moves.takes(step.replica, step.pod) and moves.takes(step.other, pod)
        if in_order and fits and moves.at_rest(step.other):
            return step
    return None


def _by_relief(relief: float, excess: float) -> tuple[bool, float]:
    """Smaller is better: what is enough before what is not, then what comes nearest."""
    return relief < excess, relief if relief >= excess else -relief
