"""How many replicas that serve may be on their way to another pod at a time, and for what first."""

from __future__ import annotations

from heapq import nsmallest
from math import log, sqrt

from lora_scheduler.allotment import Allotment, Order
from lora_scheduler.balance.consolidating import consolidate
from lora_scheduler.balance.loads import Loads, by_base_model
from lora_scheduler.balance.rebalancing import Rebalancing, rebalance
from lora_scheduler.balance.shifting import Shifting, free_bytes
from lora_scheduler.balance.spreading import respread
from lora_scheduler.finding import order_of
from lora_scheduler.fleet import Fleet
from lora_scheduler.model import Overload, Policy
from lora_scheduler.policies import PACKING

MOVES, PODS_PER_MOVE = 2, 50  # by default so many, and one more for so many pods
Moves = dict[str, tuple[str, str]]  # see model.Places.moves

MOST_LACKING = 64  # adapters for which others might move, of those that lack room
NOISES = 3.0  # standard deviations of a measured load: differences up to that say nothing


def move(fleet: Fleet, shifting: Shifting, policy: Policy) -> tuple[tuple[Overload, ...], Moves]:
    """Begin as many moves as are allowed beside those that are under way: for those that lack room, for spread, then
    for even loads. The pods that keep too much load for now, and the moves to remember."""
    allowed = MOVES + len(fleet.pods) // PODS_PER_MOVE if policy.max_moves is None else policy.max_moves
    worked = fleet.worked()
    under_way = sum([_under_way(allotment) for allotment in worked if allotment.pending])
    moves = Rebalancing(shifting, allowed - under_way, remembers=fleet.holding.remembers)
    moves.remembered |= fleet.holding.moves_of(worked)
    moves.closed.update(pod for pod, awaiting in moves.remembered.values() if awaiting)
    if moves.budget > 0:
        awaited = {awaiting for _, awaiting in moves.remembered.values()}
        waiting = fleet.waiting.up_to(_free_in_all(fleet)) if fleet.waiting.levels else ()
        possible = {one.adapter.key: one for one in (*worked, *waiting) if _lacks(one, fleet)}
        consolidate(
            nsmallest(MOST_LACKING, [one for key, one in possible.items() if key not in awaited], key=_first_in_line),
            moves,
        )
        respread(fleet, moves)
    return _even_out(fleet, moves, policy), moves.remembered


def _free_in_all(fleet: Fleet) -> dict[str, int]:
    """The free memory of all pods with such together, by base model, where there is a free slot."""
    memory: dict[str, int] = {}
    open_models: set[str] = set()
    for pod in fleet.pods:
        if pod.target:
            model = pod.pod.base_model
            memory[model] = memory.get(model, 0) + max(free_bytes(pod), 0)
            if pod.later_slots < pod.slot_limit and pod.now_slots < pod.slot_limit:
                open_models.add(model)
    return {model: size for model, size in memory.items() if model in open_models}


def _first_in_line(allotment: Allotment) -> tuple[int, bool, Order]:
    adapter = allotment.adapter
    return -adapter.effective_priority, bool(allotment.kept), order_of(adapter, allotment.share)


def _lacks(allotment: Allotment, fleet: Fleet) -> bool:
    """Whether something of it has no place, and others may move for it."""
    return (
        not allotment.everywhere
        and not allotment.moving
        and allotment.missing > 0
        and not allotment.pending
        and not fleet.failing.has(allotment)
    )


def _even_out(fleet: Fleet, moves: Rebalancing, policy: Policy) -> tuple[Overload, ...]:
    if policy.rebalance_epsilon is None or policy.name in PACKING:
        return ()
    overloads: list[Overload] = []
    for _, alike in sorted(by_base_model(fleet.pods).items()):
        if len(alike) > 1:
            loads = Loads(alike)
            noise = noise_of(loads.ideal, policy.demand_half_life)
            overloads += rebalance(loads, max(policy.rebalance_epsilon * loads.ideal, NOISES * noise), moves)
    return tuple(overloads)


def _under_way(allotment: Allotment) -> int:
    """How many of its replicas are on their way to another pod. One that may no longer be where it is, and has no other
    place, is on its way to nowhere."""
    arriving = sum(not replica.serving_current for replica in allotment.kept.values())
    return min(sum(not replica.outdated for replica in allotment.pending.values()), arriving)


def noise_of(load: float, half_life_seconds: float) -> float:
    """The standard deviation of a measured load, in requests per second, where requests come at random and those of
    the past count the less the longer ago they are; 0 for a half-life of 0, by which demand is known exactly."""
    return sqrt(load * log(2) / half_life_seconds / 2) if half_life_seconds else 0.0
