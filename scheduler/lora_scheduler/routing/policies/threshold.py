"""The classic rule of gateways: nearly always a pod where the adapter is active, otherwise one with a place in its
batch. Activity decides among pods that hold the adapter; it never stands for holding it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from lora_scheduler.routing.question import Choice, Question
from lora_scheduler.routing.slots import Slot


def choose(question: Question) -> Choice | None:
    """With probability `affinity`: a holder where the adapter runs, else where it waits, else one with a place in its
    batch, else any. Otherwise one with a place where it is not active, of all pods if the request may load.

    Of several the least busy of those drawn. Stale metrics tell neither activity nor a place.
    """
    rules, may_load = question.rules, question.ask.may_load
    active = _active(question)
    if question.chance.random() < rules.affinity:
        found = active or _with_place(question.draw(question.holders, rules.scan))
    else:
        others = question.anywhere(rules.scan) if may_load else question.draw(question.holders, rules.scan)
        found = _with_place(slot for slot in others if slot not in active)
    found = found or active or question.holders or (question.able(rules.choices) if may_load else ())
    return Choice(question.least(question.draw(found, rules.choices))[0]) if found else None


def _active(question: Question) -> Sequence[Slot]:
    """Some of the holders where all that is asked for is busy: it runs there, or if it runs nowhere, it waits."""
    adapters = question.ask.adapters
    for busy in (question.index.running, question.index.waiting) if adapters else ():
        drawn = question.draw(question.allowed(busy(adapters[0])), question.rules.choices)
        active = [slot for slot in drawn if slot.fresh and slot.runs(adapters)]
        if active:
            return active
    return ()


def _with_place(slots: Iterable[Slot]) -> Sequence[Slot]:
    """An engine that has served nothing so far does not say how many places it has: one at least."""
    return [slot for slot in slots if slot.fresh and len(slot.active) < (slot.gpu_slots or 1)]
