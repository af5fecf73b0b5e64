"""Exchanges old versions for the wanted one, pod by pod, so that the adapter is answered throughout where it can be.

The ways, best first: the new version beside the old one on the same pod; the new version on another pod that has room,
for which the old one goes when the new one serves (a surge); else the old one leaves first, while other replicas serve.
"""

from __future__ import annotations

from dataclasses import dataclass

from lora_scheduler.allotment import Allotment
from lora_scheduler.board import Board, options
from lora_scheduler.clearing import clear
from lora_scheduler.filters import loadable, ready
from lora_scheduler.fleet import Fleet
from lora_scheduler.ledger import Replica
from lora_scheduler.model import LoadCause, Reason, UnloadCause
from lora_scheduler.placement import allot
from lora_scheduler.steps import Steps

CLEARED = "adapters that nobody uses have left"


@dataclass(frozen=True, slots=True)
class Rollout:
    """What an exchange of versions works with."""

    fleet: Fleet
    steps: Steps
    board: Board
    max_unavailable: int
    max_surge: int


def roll_out(allotment: Allotment, rollout: Rollout) -> None:
    """Do the next steps of this adapter's update, if one is due; say for the others what they wait for."""
    _clear_away(allotment, rollout.steps)
    due = _due(allotment, rollout.steps)
    if not due:
        return
    in_transition = _in_transition(allotment)
    budget = rollout.max_unavailable - in_transition
    budget -= _load_beside(allotment, due, budget, rollout)
    left = [replica for replica in due if not replica.settled]
    serving = sum(replica.serving for replica in allotment.held())
    failed = _failed(allotment)
    proven = sum(replica.serving_current for replica in allotment.held())
    failing = failed > 0 and proven <= failed
    if failing:
        takable = 0
    elif len(allotment.kept) == 1:
        takable = budget
    else:
        takable = min(budget, serving - 1)
    if serving == 1:  # whatever is allowed: without an extra replica nothing would serve
        extra = min(budget, 1)
    else:
        own = allotment.adapter.max_surge
        surge = rollout.max_surge if own is None else own
        extra = 0 if failing or allotment.everywhere else surge - in_transition
    surging = [_surge(allotment, replica, rollout) for replica in left[: max(extra, 0)]]
    if any(surging) or (extra > 0 and _has_room_to_come(allotment)):
        takable = 0  # who has room to have one replica more does not have one less
    left = [replica for replica in left if not replica.settled and replica.ledger.key in allotment.kept]
    for replica in left:
        old = replica.old
        assert old is not None  # it is outdated
        if takable > 0 and replica.ledger.fits_now(allotment.adapter.bytes, leaving=old.bytes):
            takable -= 1
            allotment.moving = True
            rollout.steps.unload(replica.ledger, old, UnloadCause.SUPERSEDED, allotment.adapter.key)
            _wait(rollout.steps, replica, Reason.WAITING_FOR_ROOM, f"version {old.version} has to leave first")
        elif failing:
            message = f"keeps version {old.version}: loading {allotment.adapter.version} failed on {failed} pods"
            _wait(rollout.steps, replica, Reason.LOAD_FAILED, message)
        else:
            message = f"keeps version {old.version} until its turn comes or room is free"
            _wait(rollout.steps, replica, Reason.WAITING_FOR_ROOM, message)


def _clear_away(allotment: Allotment, steps: Steps) -> None:
    """Where the wanted version serves, the others have done their duty; duplicates never had one."""
    for replica in allotment.held():
        done = (replica.old, *replica.extras) if replica.serving_current else replica.extras
        for resident in done:
            if resident is not None:
                same = resident.version == allotment.adapter.version
                cause = UnloadCause.UNWANTED if same else UnloadCause.SUPERSEDED
                steps.unload(replica.ledger, resident, cause, allotment.adapter.key)


def _due(allotment: Allotment, steps: Steps) -> list[Replica]:
    """The kept replicas whose old version could be exchanged now, by pod."""
    due: list[Replica] = []
    for _, replica in sorted(allotment.kept.items()):
        if not replica.outdated:
            continue
        refusal = ready(allotment.adapter, replica.ledger)
        if refusal is not None:
            _wait(steps, replica, refusal.reason, refusal.message)
        elif not replica.serving:
            _wait(steps, replica, Reason.WAITING_FOR_ROOM, "an older version is still being loaded")
        else:
            due.append(replica)
    return due


def _in_transition(allotment: Allotment) -> int:
    """How many replicas are, or may be, out of service already: on their way, on their way out, or failed to load."""
    version = allotment.adapter.version
    moving = sum(replica.arriving or replica.ledger.key in allotment.leaving for replica in allotment.kept.values())
    gone = sum(
        key not in allotment.kept and any(resident.version != version for resident in leaving)
        for key, leaving in allotment.leaving.items()
    )
    return moving + gone + min(_failed(allotment, nothing_there=True), allotment.missing)


def _failed(allotment: Allotment, *, nothing_there: bool = False) -> int:
    """On how many pods the wanted version could not be loaded, and is not due to be tried again."""
    there = {replica.ledger.key for replica in allotment.held()} if nothing_there else set()
    return sum(
        ledger.key not in there and ledger.pod.excluded.get(allotment.adapter.key, (None, ""))[0] is Reason.LOAD_FAILED
        for ledger in allotment.group.ready
    )


def _load_beside(allotment: Allotment, due: list[Replica], budget: int, rollout: Rollout) -> int:
    """Load the new version beside the old one where the pod knows them by different names and has the room."""
    begun = 0
    for replica in due:
        adapter, ledger = replica.adapter, replica.ledger
        if begun < budget and adapter.key in ledger.pod.side_by_side and not rollout.fleet.blocks(allotment, ledger):
            if ledger.fits_now(adapter.bytes):
                rollout.steps.load(replica, LoadCause.UPDATE)
            elif clear([ledger], allotment, rollout.fleet.allotments) is not None:
                _wait(rollout.steps, replica, Reason.WAITING_FOR_ROOM, f"keeps version {_old(replica)} until {CLEARED}")
            else:
                continue
            begun += 1
    return begun


def _surge(allotment: Allotment, replica: Replica, rollout: Rollout) -> bool:
    """Move a replica to a pod that can load the new version now, while the old one goes on serving; or wait until there
    is one."""
    adapter = allotment.adapter
    there = {*allotment.dropped, *allotment.pending}
    possible = [
        ledger
        for ledger in options(allotment)
        if ledger.key not in there and not rollout.fleet.blocks(allotment, ledger)
    ]
    spots = [pod for pod in possible if pod.fits_later(adapter.bytes) and pod.fits_now(adapter.bytes)]
    if not spots:
        cleared = clear(possible, allotment, rollout.fleet.allotments)
        if cleared is not None:
            message = f"keeps version {_old(replica)} until {CLEARED} pod {cleared.key}"
            _wait(rollout.steps, replica, Reason.WAITING_FOR_ROOM, message)
        return cleared is not None
    allotment.postpone(replica)  # before the choice: where it is now need not be spread from
    target = rollout.board.best(allotment, spots)
    rollout.steps.load(allot(allotment, target), LoadCause.SURGE)
    allotment.moving = True
    return True


def _has_room_to_come(allotment: Allotment) -> bool:
    """Whether an old version that goes with this plan leaves room where the next one of them can surge to."""
    adapter = allotment.adapter
    return any(
        replica.current is None
        and key in allotment.group.matching
        and replica.ledger.target
        and loadable(adapter, replica.ledger)
        and replica.ledger.fits_later(adapter.bytes)
        for key, replica in allotment.dropped.items()
    )


def _old(replica: Replica) -> str | None:
    return replica.old.version if replica.old is not None else None


def _wait(steps: Steps, replica: Replica, reason: Reason, message: str) -> None:
    steps.wait(replica, LoadCause.UPDATE, reason, message)
