"""Makes loads even by means of the replicas that this plan has only just begun to load: the largest loads first, a
replica of the pod moves to a less loaded one, or changes places with a replica of a smaller share. What is loaded where
its files are stays there: how much load that may be was asked before (see at_hand).
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass
from itertools import islice

from lora_scheduler.balance.loads import Loads
from lora_scheduler.balance.shifting import Shifting, free_bytes
from lora_scheduler.ledger import PodLedger, Replica

EVEN = 0.007  # loads this near the ideal are even enough
SMALLEST_GAIN = 0.0005  # of the ideal load; less is not worth the search
# how many of the least loaded pods are looked at: at first, and if nothing is found among those
NEAR, FAR = 6, 60
STEPS_PER_POD = 4


@dataclass(frozen=True, slots=True)
class _Step:
    replica: Replica
    pod: PodLedger
    other: Replica | None
    gain: float  # by how much the larger of the two loads falls


def even_out(shifting: Shifting, pods: Sequence[PodLedger]) -> None:
    """Even out the loads of all pods that something has begun to be loaded on."""
    begun = {replica.ledger.key: replica.ledger for replica in shifting.steps.begun()}
    for model in sorted({pod.pod.base_model for pod in begun.values()}):
        alike = [pod for pod in pods if pod.sends and pod.pod.base_model == model]
        limit = sum([pod.load for pod in alike]) / len(alike) * (1 + EVEN)
        # what is above the limit without something that has only begun there stays as it is
        if any(pod.load > limit and pod.pod.base_model == model for pod in begun.values()):
            _even_out(shifting, Loads(alike))


def _even_out(shifting: Shifting, loads: Loads) -> None:
    limit = loads.ideal * (1 + EVEN)
    stuck: set[str] = set()
    steps = STEPS_PER_POD * len(loads.pods)
    while steps > 0 and (pod := loads.hottest(limit, stuck)) is not None:
        steps -= 1
        step = _best_step(pod, loads, shifting)
        if step is None:
            stuck.add(pod.key)
            continue
        changed = (pod.load, pod), (step.pod.load, step.pod)
        if step.other is None:
            shifting.shift(step.replica, step.pod)
        else:
            shifting.swap(step.replica, step.other)
        loads.shifted(changed)


def _best_step(pod: PodLedger, loads: Loads, shifting: Shifting) -> _Step | None:
    replicas = [replica for replica in shifting.movable(pod) if replica.share > 0 and not replica.at_hand]
    if not replicas:
        return None
    enough = SMALLEST_GAIN * loads.ideal
    # where selectors leave few pods to each, those that none of these may be on are not looked at
    groups = {id(one): one for one in (shifting.fleet.allotments[replica.adapter.key].group for replica in replicas)}
    matching = [group.matching for group in groups.values()]
    reach = matching[0] if len(matching) == 1 else set[str]().union(*matching)
    if len(reach) < 2:
        return None
    for width in (NEAR, FAR):
        found = [
            _best_move(pod, replicas, reach, width, loads, shifting),
            _best_exchange(pod, replicas, reach, width, loads, shifting),
        ]
        best = max((step for step in found if step is not None), key=lambda step: step.gain, default=None)
        if best is not None and best.gain >= enough:
            return best
    return None


def _best_move(
    pod: PodLedger, replicas: Sequence[Replica], reach: Set[str], width: int, loads: Loads, shifting: Shifting
) -> _Step | None:
    best: _Step | None = None
    open_pods = (other for other in loads.least_with_a_slot() if other is not pod and other.key in reach)
    targets = list(islice(open_pods, width))
    for replica in replicas:
        for other in targets:
            gain = min(replica.share, pod.load - other.load - replica.share)
            if gain <= (best.gain if best else 0.0):
                break  # the next ones have larger loads
            if free_bytes(other) >= replica.bytes and shifting.may_go(replica, other):
                best = _Step(replica, other, None, gain)
                break
    return best


def _best_exchange(
    pod: PodLedger, replicas: Sequence[Replica], reach: Set[str], width: int, loads: Loads, shifting: Shifting
) -> _Step | None:
    room = free_bytes(pod)
    ours = [(replica.share, replica.bytes, replica) for replica in replicas]
    best: _Step | None = None
    most, keys = 0.0, ("", "")
    for other in islice((other for other in loads.least() if other.key in reach and other is not pod), width):
        apart, their_room = pod.load - other.load, free_bytes(other)
        if apart <= 2 * most:
            break  # the larger load falls by no more than half of the difference, and the next ones have larger loads
        for incoming in other.replicas.values():
            if not incoming.begun:
                continue
            share, size = incoming.share, incoming.bytes
            for replica_share, replica_bytes, replica in ours:
                shifted = replica_share - share
                gain = apart - shifted
                if shifted < gain:
                    gain = shifted
                if gain < most or gain <= 0 or replica_bytes - size > their_room or size - replica_bytes > room:
                    continue
                names = replica.adapter.key, incoming.adapter.key
                if (gain > most or names < keys) and shifting.may_go(replica, other) and shifting.may_go(incoming, pod):
                    best, most, keys = _Step(replica, other, incoming, gain), gain, names
    return best
