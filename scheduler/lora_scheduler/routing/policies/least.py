"""Power of two choices by load alone: what a gateway does that does not look for replicas, unless it must."""

from __future__ import annotations

from lora_scheduler.routing.question import Choice, Question


def choose(question: Question) -> Choice | None:
    """Of all pods if the request may load, else of those that hold the adapter."""
    count = question.rules.choices
    if question.ask.may_load:
        found = question.anywhere(count) or question.holders or question.able(count)
    else:
        found = question.holders
    return Choice(question.least(question.draw(found, count))[0]) if found else None
