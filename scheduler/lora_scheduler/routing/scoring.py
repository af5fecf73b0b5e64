"""What a pod is worth for a request, term by term: the same for pods that are chosen and for workers that choose."""

from __future__ import annotations

from collections.abc import Container
from typing import NamedTuple

from lora_scheduler.routing.model import RoutingRequest
from lora_scheduler.routing.rules import Weights


class Score(NamedTuple):
    """The terms of `Weights`, as they count here: `queue_depth` is 0 or less."""

    own_resident: float = 0.0
    shared_resident: float = 0.0
    free_slot: float = 0.0
    prefix: float = 0.0
    queue_depth: float = 0.0

    @property
    def total(self) -> float:
        return sum(self)


def score_of(
    ask: RoutingRequest, held: Container[str], weights: Weights, *, place: bool, cached: float = 0.0, busy: float = 0.0
) -> Score:
    """Per adapter of the request that is there: the tenant's own are worth more than shared ones, which will be found
    elsewhere too. `place`: the next batch has one; `cached`: thousand tokens of the prompt; `busy`: load ÷ mean."""
    own = shared = 0
    for adapter in ask.adapters:
        if adapter in held:
            if adapter in ask.shared:
                shared += 1
            else:
                own += 1
    return Score(
        own * weights.own_resident,
        shared * weights.shared_resident,
        weights.free_slot if place else 0.0,
        weights.prefix * cached,
        -weights.queue_depth * busy,
    )
