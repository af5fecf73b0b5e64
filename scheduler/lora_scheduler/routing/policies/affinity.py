"""The default: power of two choices among the pods that hold the adapter; another pod only when those are too busy."""

from __future__ import annotations

from lora_scheduler.routing.question import Choice, Question


def choose(question: Question) -> Choice | None:
    """Too busy: beyond (1 + epsilon) times the mean of all pods of the base model, and beyond `slack` more than it.

    Then, if a look at more holders finds no better one, a pod with room that is less busy than the mean: as the answer
    if the request may load, otherwise named as the place for another copy.
    """
    rules, holders = question.rules, question.holders
    if not holders:
        able = question.able(rules.choices) if question.ask.may_load else ()
        return Choice(question.least(able)[0]) if able else None
    best, load = question.least(question.draw(holders, rules.choices))
    mean = question.mean()
    bound = max((1 + rules.epsilon) * mean, mean + rules.slack)
    if load > bound and len(holders) > rules.choices:
        best, load = question.least(question.draw(holders, rules.scan))
    if load <= bound or not question.ask.adapters:
        return Choice(best)
    able = question.roomy(rules.choices)
    if not able:
        return Choice(best)
    other, there = question.least(able)
    if there > mean:
        return Choice(best)
    return Choice(other) if question.ask.may_load else Choice(best, spill=other)
