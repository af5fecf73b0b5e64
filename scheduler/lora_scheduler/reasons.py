"""Answers, pod by pod, why an adapter is there or is not, from the accounts of a finished round."""

from __future__ import annotations

from dataclasses import replace

from lora_scheduler.allotment import Allotment
from lora_scheduler.filters import DECLARED, LOADABLE, PRESENT, first_refusal, loadable, room_refusal
from lora_scheduler.fleet import Fleet
from lora_scheduler.ledger import PodLedger, Replica
from lora_scheduler.model import Reason, Refusal, ResidentState
from lora_scheduler.steps import Steps

FILES_THERE = "; its files are on the pod's disk"


def reasons(allotment: Allotment, fleet: Fleet, steps: Steps) -> tuple[Refusal, ...]:
    """One refusal per pod, by pod."""
    waiting = steps.obstacles(allotment.adapter.key)
    holders = next(fleet.disks.nearest(allotment.adapter), ())
    found = (_reason(allotment, ledger, waiting.get(ledger.key)) for ledger in fleet.pods)
    return tuple(replace(one, message=one.message + FILES_THERE) if one.pod in holders else one for one in found)


def _reason(allotment: Allotment, ledger: PodLedger, waiting: Refusal | None) -> Refusal:
    adapter, key = allotment.adapter, ledger.key
    replica = allotment.kept.get(key)
    if replica is not None:
        if not replica.residents and waiting is not None:
            return waiting
        return Refusal(key, Reason.ALREADY_PLACED, _whereabouts(replica, waiting))
    if key not in allotment.group.matching:
        refusal = first_refusal(DECLARED, adapter, ledger)
    else:
        allowed = ledger.target and loadable(adapter, ledger)
        refusal = None if allowed else first_refusal((*PRESENT, *LOADABLE), adapter, ledger)
        refusal = refusal or room_refusal(adapter, ledger, allotment.pending.get(key))
    if refusal is not None:
        return refusal
    if allotment.missing > 0:
        return Refusal(key, Reason.WAITING_FOR_ROOM, "room is being made there; the next plan can use it")
    kept = len(allotment.kept)
    if key in allotment.pending or key in allotment.dropped:
        message = "its replica there goes, " + ("1 other is enough" if kept == 1 else f"{kept} others are enough")
    elif not kept:
        message = "no replica is wanted now"
    else:
        message = ("1 replica has a place" if kept == 1 else f"{kept} replicas have a place") + ", no more are wanted"
    return Refusal(key, Reason.NOT_WANTED, message)


def _whereabouts(replica: Replica, waiting: Refusal | None) -> str:
    if replica.outdated and waiting is not None:
        return f"a replica of another version is there: {waiting.message}"
    there = replica.current or replica.old
    if there is None:
        return "its load starts with this plan"
    return "a replica is there" if there.state is ResidentState.LOADED else "a replica is being loaded there"
