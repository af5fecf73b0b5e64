"""Any pod, by lot: what the others are compared with."""

from __future__ import annotations

from lora_scheduler.routing.question import Choice, Question


def choose(question: Question) -> Choice | None:
    """Of all pods if the request may load, else of those that hold the adapter."""
    found = (question.ask.may_load and question.anywhere(1)) or question.holders
    if not found and question.ask.may_load:
        found = question.able(1)
    return Choice(question.draw(found, 1)[0]) if found else None
