"""One planning round, from a snapshot to a plan.

1. Open the accounts: who has what where (fleet). From here on only those count that are not at rest.
2. For each adapter: which replicas stay (retention).
3. For each pod that is over a limit: who leaves (preemption).
4. For each adapter, highest priority first: places for what it lacks (placement, preemption), the loads that may start
   now (steps), the next step of its update (rollout).
5. Once more for those that still lack replicas: step 4 may have freed more room than it needed.

Whatever a step does to an account goes through `Allotment.keep`, `drop`, `evict` or `postpone`, which note it: that is
how the next round of a lasting fleet knows what to set back (see incremental).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lora_scheduler.allotment import Allotment
from lora_scheduler.at_hand import AtHand
from lora_scheduler.balance.evening import even_out
from lora_scheduler.balance.moving import move
from lora_scheduler.balance.packing import pack
from lora_scheduler.balance.selecting import select
from lora_scheduler.balance.shifting import Shifting
from lora_scheduler.board import Board
from lora_scheduler.fleet import Change, Fleet
from lora_scheduler.model import YIELDING, Overload, Places, Plan, Policy, Snapshot
from lora_scheduler.placement import fill, follow_demand, grow
from lora_scheduler.policies import CLOSE, POLICIES
from lora_scheduler.precedence import rank_by_worth
from lora_scheduler.preemption import reach, relieve
from lora_scheduler.refusals import Refusals
from lora_scheduler.retention import bar, retain
from lora_scheduler.rollout import Rollout, roll_out
from lora_scheduler.steps import Steps, finish, start
from lora_scheduler.validation import check

DEFAULT = Policy()


@dataclass(frozen=True, slots=True)
class Round:
    """All accounts after a planning round; `worked` are those that are not at rest, in the order of service."""

    fleet: Fleet
    steps: Steps
    worked: list[Allotment]
    overloads: tuple[Overload, ...]
    moves: Mapping[str, tuple[str, str]]  # to remember, see model.Places


def plan(snapshot: Snapshot, policy: Policy = DEFAULT) -> Plan:
    """Decide which pod should hold which adapter, and what can be done about it at once.

    The same snapshot gives the same plan, in whatever order its adapters, pods and residents are listed. In
    `Plan.actions` the unloads come first, by pod and name, then the loads, those of the highest priority first.
    Raises InvalidSnapshot or InvalidPolicy.
    """
    done = work_out(snapshot, policy)
    allotments = done.fleet.allotments
    assignments = {key: allotments[key].assigned for key in sorted(allotments)}
    return plan_of(done, assignments)


def plan_of(done: Round, assignments: Mapping[str, tuple[str, ...]]) -> Plan:
    """What a round has decided. The assignments are those of all adapters, by key."""
    lacking = done.fleet.waiting.missing(done.worked)
    return Plan(
        assignments=assignments,
        actions=done.steps.actions,
        waiting=tuple(done.steps.waiting),
        refusals=Refusals(tuple(lacking), done.fleet, done.steps),
        missing=lacking,
        overloads=done.overloads,
        places=_places(done, assignments),
    )


def _places(done: Round, assignments: Mapping[str, tuple[str, ...]]) -> Places:
    fleet = done.fleet
    firm, failed = fleet.holding.firm(done.worked), fleet.failing.versions(fleet.allotments)
    return Places(assignments, frozenset(fleet.targets), firm, failed, done.moves, remembered=True)


def work_out(snapshot: Snapshot, policy: Policy) -> Round:
    """The accounts of a snapshot after a round; `plan` and `explain` read different things off them."""
    check(snapshot, policy)
    fleet = Fleet(policy.hot_share)
    fleet.apply(Change(snapshot.adapters, snapshot.pods), snapshot.places)
    return decide(fleet, policy)


def decide(fleet: Fleet, policy: Policy) -> Round:
    """The round itself."""
    scorers, close = POLICIES[policy.name], CLOSE.get(policy.name)
    steps, board = Steps(fleet.starting), Board(fleet.pods, scorers, close, fleet.following)
    allotments, lowest_priority, spare = fleet.allotments, fleet.lowest_priority, bool(fleet.following)
    rollout = Rollout(fleet, steps, board, policy.max_unavailable, policy.max_surge)
    # of all others, what is there stays as it is
    there = [one for one in fleet.active if not one.sound or (len(one.kept) > one.wanted and not one.everywhere)]
    for allotment in there:
        bar(allotment)
    for allotment in there:
        retain(allotment, fleet.holding.leaves(allotment.adapter.key))
    for ledger in fleet.overfull():
        relieve(ledger, allotments)
    rank_by_worth(fleet.active, fleet.pods)
    at_hand = AtHand(fleet)
    further: list[Allotment] = []  # who has a first replica, and gets others once all of that priority have had a turn
    elsewhere: list[Allotment] = []  # whose kind of pods has no room: they get what all of that priority have left

    def serve(one: Allotment, wanted: int) -> None:
        # what has failed, and serves nowhere, has the room that nobody uses
        up_to = YIELDING if fleet.failing.has(one) else reach(one.adapter)
        takes = not one.kind and (spare or up_to > lowest_priority)
        fill(one, wanted, at_hand, allotments, board, up_to if takes else None)
        start(one, fleet, steps)
        if one.kind and len(one.kept) < wanted:
            elsewhere.append(one)

    for turn in fleet.in_turn(lowest_priority):
        if turn is None:
            for allotment in further:
                serve(allotment, allotment.needed)
            further.clear()
            for allotment in elsewhere:
                allotment.kind = 0
                serve(allotment, 1)
            for allotment in elsewhere:
                serve(allotment, allotment.needed)
            elsewhere.clear()
            continue
        if not turn.sound:
            grow(turn)
        if turn.needed > 1 and (turn.scarce or turn.evicted):
            further.append(turn)
            serve(turn, 1)
        else:
            serve(turn, turn.needed)
        if not turn.sound:
            roll_out(turn, rollout)
    shifting = Shifting(fleet, steps)
    pack([a for a in fleet.worked() if not a.everywhere and a.missing > 0 and not a.moving], shifting, fleet.waiting)
    select([a for a in fleet.worked() if not a.everywhere and a.missing > 0 and not a.moving], shifting)
    # what has been moved, and preempted, may have made more room than the other board knows of
    if fleet.stirred:
        fleet.wake()
    board = Board(fleet.pods, scorers, close)
    worked = fleet.worked()
    for allotment in worked:
        allotment.kind = 0
    for allotment in worked:
        if not allotment.kept and not allotment.moving and not allotment.everywhere:
            fill(allotment, min(allotment.needed, 1), at_hand, allotments, board)  # first replicas before second ones
    for allotment in worked:
        if (allotment.missing > 0 or len(allotment.kept) < allotment.wanted) and not allotment.moving:
            fill(allotment, allotment.needed, at_hand, allotments, board)
            if not allotment.everywhere:
                follow_demand(allotment, allotments, board, preempt=lowest_priority < YIELDING)
            start(allotment, fleet, steps)
    if policy.name in CLOSE:
        even_out(shifting, fleet.pods)
    overloads, moves = move(fleet, shifting, policy)
    finish(fleet, steps)
    return Round(fleet, steps, fleet.worked(), overloads, moves)
