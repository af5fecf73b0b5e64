"""A sum of weights: replicas that are there, places in the batch, queues. For requests that use several adapters."""

from __future__ import annotations

from collections.abc import Sequence

from lora_scheduler.routing.question import Choice, Question
from lora_scheduler.routing.slots import Slot


def choose(question: Question) -> Choice | None:
    """The highest score of those drawn; of equal ones the first drawn."""
    best: Choice | None = None
    mean = max(question.mean(), 1.0)  # in a quiet fleet one request more is nothing
    for slot in _candidates(question):
        score = question.score(slot, mean).total
        if best is None or score > best.score:
            best = Choice(slot, score=score)
    return best


def _candidates(question: Question) -> Sequence[Slot]:
    rules, ask = question.rules, question.ask
    drawn = [*question.draw(question.holders, rules.scan)]
    if ask.may_load:
        # pods that hold a part of it, and pods that hold nothing: the weights say what is better
        for adapter in ask.adapters if len(ask.adapters) > 1 else ():
            some = question.draw(question.allowed(question.index.holding(adapter)), rules.choices)
            drawn += [slot for slot in some if question.fits(slot)]
        drawn += question.able(rules.choices)
    return drawn
