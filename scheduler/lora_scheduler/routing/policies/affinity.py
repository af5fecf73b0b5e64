"""The default: power of two choices among the pods that hold the adapter; another pod only when those are too busy."""

from __future__ import annotations

from lora_scheduler.routing.question import Choice, Question


def choose(question: Question) -> Choice | None:
    """Too busy: beyond (1 + epsilon) times the mean of all pods of the base model, and beyond `slack` more than it.

    Where the request says what is `cached`, the holder where its prompt costs least goes before, if it is not too busy.
    Then, if a look at more holders finds no better one: a pod where a replica is on its way, unless it is too busy as
    well; else a pod with room that is no busier than the mean. It is the answer if the request may load, otherwise it
    is named as the place for another replica. A load holds up everything at its pod: it must gain something, and so the
    other pod must be less busy by `gain` times the mean.
    """
    rules, holders = question.rules, question.holders
    if not holders:
        able = question.able(rules.scan) if question.ask.may_load else ()
        return Choice(question.least(able)[0]) if able else None
    best, load = question.least(question.draw(holders, rules.choices))
    mean = question.mean()
    bound = max((1 + rules.epsilon) * mean, mean + rules.slack)
    if load > mean and len(holders) > rules.choices:
        best, load = question.least(question.draw(holders, rules.scan))
    if question.ask.cached and question.ask.adapters:
        best, load = question.cheapest((best, load), bound)
    if load <= bound:
        return Choice(best)
    gain = rules.gain * mean
    for elsewhere, most in ((question.coming, bound), (question.roomy, mean)):
        able = elsewhere(rules.scan)
        if able:
            other, there = question.least(able)
            if there <= most and load - there >= gain:
                return Choice(other) if question.ask.may_load else Choice(best, spill=other)
    return Choice(best)
