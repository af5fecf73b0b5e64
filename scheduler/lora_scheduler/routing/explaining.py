"""What each pod that could be the answer would score, for people who ask why."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice

from lora_scheduler.routing.index import Index
from lora_scheduler.routing.model import Endpoint, RoutingRequest
from lora_scheduler.routing.question import Question
from lora_scheduler.routing.rules import DEFAULT_WEIGHTS, Rules, Weights
from lora_scheduler.routing.scoring import Score

MOST_CANDIDATES = 32
MOST_SCORED = 1000  # pods of each adapter: an answer to a person may cost more than a pick, and not any amount


@dataclass(frozen=True, slots=True)
class Candidate:
    """A pod that holds some of what is asked for. `load`: requests that are estimated to be there."""

    endpoint: Endpoint
    missing: tuple[str, ...]
    load: float
    score: Score


def explain(
    index: Index, ask: RoutingRequest, *, now: float, weights: Weights = DEFAULT_WEIGHTS, most: int = MOST_CANDIDATES
) -> tuple[Candidate, ...]:
    """The pods that the request does not rule out and that hold any of its adapters (of the base model, if it names
    none): those that hold all first, then by score, then by pod. Nothing is drawn and nothing changes."""
    if index.unknown(ask):
        return ()
    pool = index.pool(index.base_model(ask))
    if pool is None:
        return ()
    question = Question(index, ask, Rules(weights=weights), pool, now, None)
    several = [question.allowed(index.holding(adapter)) for adapter in ask.adapters]
    slots = {slot.pod: slot for slots in (question.holders, *several) for slot in islice(slots, MOST_SCORED)}
    mean = max(question.mean(), 1.0)
    found = [
        Candidate(slot.endpoint, question.missing(slot), question.load(slot), question.score(slot, mean))
        for slot in slots.values()
    ]
    return tuple(sorted(found, key=lambda one: (len(one.missing), -one.score.total, one.endpoint.pod))[:most])
