"""The classic rule of gateways: nearly always a pod where the adapter is active, otherwise one with a place in its
batch. Activity decides among pods that hold the adapter; it never stands for holding it."""

from __future__ import annotations

from collections.abc import Sequence

from lora_scheduler.routing.question import Choice, Question
from lora_scheduler.routing.slots import Slot


def choose(question: Question) -> Choice | None:
    """Running counts before waiting. Where there is neither an active pod nor one with a place, any that may be the
    answer; the least busy of those drawn. Stale metrics tell neither activity nor a place."""
    rules, holders = question.rules, question.holders
    active = _active(question)
    if active and question.chance.random() < rules.affinity:
        return Choice(question.least(active)[0])
    others = question.anywhere(rules.scan) if question.ask.may_load else question.draw(holders, rules.scan)
    with_place = [slot for slot in others if slot not in active and _has_place(slot)]
    found = with_place or active or question.draw(holders, rules.choices)
    if not found and question.ask.may_load:
        found = question.able(rules.choices)
    return Choice(question.least(question.draw(found, rules.choices))[0]) if found else None


def _active(question: Question) -> Sequence[Slot]:
    """Some of the holders where all that is asked for is busy."""
    adapters = question.ask.adapters
    if not adapters:
        return ()
    for busy in (question.index.running, question.index.waiting):
        drawn = question.draw(question.allowed(busy(adapters[0])), question.rules.choices)
        active = [slot for slot in drawn if slot.fresh and _all_active(slot, adapters)]
        if active:
            return active
    return ()


def _all_active(slot: Slot, adapters: tuple[str, ...]) -> bool:
    return all(slot.held.get(adapter) in slot.active for adapter in adapters)


def _has_place(slot: Slot) -> bool:
    """An engine without requests so far does not say how many places it has: it has one."""
    return slot.fresh and len(slot.active) < (slot.gpu_slots or 1)
