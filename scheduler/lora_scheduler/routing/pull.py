"""The mirror image of a pick, for pull queues: one worker, many waiting requests, which should it take?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from lora_scheduler.routing.errors import InvalidRules
from lora_scheduler.routing.model import Endpoint, EndpointState, HoldingState, RoutingRequest
from lora_scheduler.routing.rules import DEFAULT_WEIGHTS, Weights
from lora_scheduler.routing.scoring import Score, score_of


@dataclass(frozen=True, slots=True)
class Pending:
    """A request that waits since `since`; `base_model` is what it needs, adapters or not."""

    key: str
    ask: RoutingRequest
    base_model: str
    since: float


@dataclass(frozen=True, slots=True)
class PullRules:
    """`scan`: how many requests are looked at, from the oldest on. `fair_seconds`: those that waited for longer come
    first, the oldest of them before all."""

    scan: int = 64
    fair_seconds: float = 2.0
    weights: Weights = DEFAULT_WEIGHTS

    def __post_init__(self) -> None:
        if self.scan < 1:
            raise InvalidRules(f"scan is {self.scan}; look at 1 request or more")
        if not (math.isfinite(self.fair_seconds) and self.fair_seconds >= 0):
            raise InvalidRules(f"fair_seconds is {self.fair_seconds}; use 0 (oldest first) or more")


@dataclass(frozen=True, slots=True)
class Match:
    """Take `pending`. `missing`: what has to be loaded first; `overdue`: it is its turn, whatever the others score."""

    pending: Pending
    score: float
    missing: tuple[str, ...] = ()
    overdue: bool = False


DEFAULT = PullRules()


def match(worker: Endpoint, pending: Sequence[Pending], *, now: float, rules: PullRules = DEFAULT) -> Match | None:
    """The best request for this worker among the first `rules.scan`, which must be the oldest; None at once if it can
    serve none of them.

    It can serve what it holds, and what it has room for if the request `may_load`. What has to be loaded is taken
    only if there is nothing else, or when it is overdue. So a request that some worker can serve waits, once it is
    among the first `scan` and `fair_seconds` old, for as many calls of such workers as there are older ones.
    """
    if worker.state is not EndpointState.SERVING:
        return None
    held = {
        holding.adapter: holding.engine_name for holding in worker.holdings if holding.state is HoldingState.SERVING
    }
    best: Match | None = None
    for one in islice(pending, rules.scan):
        missing = tuple([adapter for adapter in one.ask.adapters if adapter not in held])
        if not _serves(worker, one, missing):
            continue
        score = _score(worker, one.ask, held, rules.weights).total
        if now - one.since > rules.fair_seconds:
            return Match(one, score, missing, overdue=True)
        if best is None or (not missing, score) > (not best.missing, best.score):
            best = Match(one, score, missing)
    return best


def _serves(worker: Endpoint, one: Pending, missing: tuple[str, ...]) -> bool:
    ask = one.ask
    if one.base_model != worker.base_model or worker.pod in ask.avoid:
        return False
    if ask.among is not None and worker.pod not in ask.among:
        return False
    return not missing or (ask.may_load and len(missing) <= worker.room)


def _score(worker: Endpoint, ask: RoutingRequest, held: dict[str, str], weights: Weights) -> Score:
    """Residents, and whether the next batch has a place: metrics count as fresh, as the worker itself brings them."""
    load = worker.load
    active = load.running_adapters | load.waiting_adapters if load is not None else frozenset[str]()
    places = (load.max_loras if load is not None else 0) or worker.gpu_slots
    crowded = bool(places) and len(active) >= places
    place = not crowded or all(held.get(adapter) in active for adapter in ask.adapters)
    return score_of(ask, held, weights, place=place)
