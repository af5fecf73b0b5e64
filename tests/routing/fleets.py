"""Builders of small fleets to route in; every argument has a default that makes the object harmless."""

from __future__ import annotations

import random
from collections.abc import Collection
from typing import Any

from lora_scheduler.routing import (
    Answer,
    Endpoint,
    EndpointState,
    EngineLoad,
    Holding,
    HoldingState,
    Index,
    Picked,
    RoutingRequest,
    Rules,
    pick,
)

POLICY_NAMES = ("lora-affinity", "threshold", "weighted", "least-request", "random")
DRAINING, UNREADY = EndpointState.DRAINING, EndpointState.UNREADY
LOADING, WITHDRAWN = HoldingState.LOADING, HoldingState.WITHDRAWN


def a_pod(pod: str = "p1", *adapters: str | Holding, **fields: Any) -> Endpoint:
    """Holds `adapters` under their own names, and has four slots."""
    holdings = tuple(Holding(one, one) if isinstance(one, str) else one for one in adapters)
    given = {"address": f"{pod}:8000", "base_model": "llama", "host_slots": 4, "holdings": holdings} | fields
    return Endpoint(pod, **given)


def busy(requests: int | None = 0, *active: str, at: float = 0.0, **fields: Any) -> EngineLoad:
    """Metrics with so many requests running, for these adapters."""
    return EngineLoad(at, running=requests, running_adapters=frozenset(active), **fields)


def an_index(*pods: Endpoint, known: Collection[str] = (), **settings: Any) -> Index:
    index = Index.of(pods, now=0.0, **settings)
    for adapter in known:
        index.know(adapter, "llama")
    return index


def ask(*adapters: str, **fields: Any) -> RoutingRequest:
    return RoutingRequest(adapters, **fields)


def answers(
    index: Index,
    question: RoutingRequest | str,
    policy: str = "lora-affinity",
    *,
    times: int = 50,
    now: float = 0.0,
    **rules: Any,
) -> list[Answer]:
    """Many picks of the same, with other draws."""
    chance = random.Random(1)
    wanted = RoutingRequest((question,)) if isinstance(question, str) else question
    return [pick(index, wanted, now=now, chance=chance, rules=Rules(policy, **rules)) for _ in range(times)]


def picked(*args: Any, **rules: Any) -> set[str]:
    """The pods among these answers, all of which must be pods."""
    given = answers(*args, **rules)
    assert all(isinstance(answer, Picked) for answer in given), given
    return {answer.endpoint.pod for answer in given if isinstance(answer, Picked)}
