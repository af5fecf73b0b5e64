"""A pod with one server for each of its data-parallel ranks, each on a port of its own: asked and told as one engine.

No server knows of the others (`--data-parallel-multi-port-external-lb`; read: 0.33), so each is told to load and to
unload, and what only some of them list is `partial`: it takes room, and the pod does not hold it.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import reduce
from operator import add
from types import MappingProxyType
from typing import TypeVar

from lora_operator.vllm.answers import Endpoint, EngineModel
from lora_operator.vllm.client import EngineClient, LoadOutcome, UnloadOutcome
from lora_operator.vllm.errors import EngineError, EngineTimeout, EngineUnreachable
from lora_operator.vllm.metrics import EngineMetrics

T = TypeVar("T")


class RanksClient(EngineClient):
    """An EngineClient that asks every port of an endpoint."""

    async def models(self, endpoint: Endpoint) -> tuple[EngineModel, ...]:
        return _together(await _of_each(endpoint, super().models))

    async def health(self, endpoint: Endpoint) -> bool:
        return all(await _of_each(endpoint, super().health))

    async def is_sleeping(self, endpoint: Endpoint) -> bool:
        return any(await _of_each(endpoint, super().is_sleeping))

    async def metrics(self, endpoint: Endpoint) -> EngineMetrics:
        return reduce(_added, await _of_each(endpoint, super().metrics))

    async def load(self, endpoint: Endpoint, name: str, path: str) -> LoadOutcome:
        """Where one of them does not load it, those that have just done so forget it again."""

        each = endpoint.each()
        asked = (super(RanksClient, self).load(one, name, path) for one in each)
        outcomes = await asyncio.gather(*asked, return_exceptions=True)
        errors = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        done = [outcome for outcome in outcomes if isinstance(outcome, LoadOutcome)]
        if not errors:
            return LoadOutcome.LOADED if LoadOutcome.LOADED in done else done[0]
        for one, outcome in zip(each, outcomes, strict=True):
            if outcome in (LoadOutcome.LOADED, LoadOutcome.CONFIRMED):
                with suppress(EngineError):  # what stays is seen as partial
                    await super().unload(one, name)
        # one that may still load it later says most about what is to come
        raise next((e for e in errors if isinstance(e, (EngineTimeout, EngineUnreachable))), errors[0])

    async def unload(self, endpoint: Endpoint, name: str) -> UnloadOutcome:
        def unload_one(one: Endpoint) -> Awaitable[UnloadOutcome]:
            return super(RanksClient, self).unload(one, name)

        outcomes = await _of_each(endpoint, unload_one)
        return next((o for o in outcomes if o is UnloadOutcome.UNLOADED), outcomes[0])


async def _of_each(endpoint: Endpoint, ask: Callable[[Endpoint], Awaitable[T]]) -> list[T]:
    """The answers of all ports, asked side by side; raises the first error once all have answered."""
    if not endpoint.further_ports:
        return [await ask(endpoint)]
    answers = await asyncio.gather(*(ask(one) for one in endpoint.each()), return_exceptions=True)
    for answer in answers:
        if isinstance(answer, BaseException):
            raise answer
    return [answer for answer in answers if not isinstance(answer, BaseException)]


def _added(one: EngineMetrics, other: EngineMetrics) -> EngineMetrics:
    reasons = Counter(one.waiting_by_reason) + Counter(other.waiting_by_reason)
    return EngineMetrics(
        requests_running=_both(one.requests_running, other.requests_running, add),
        requests_waiting=_both(one.requests_waiting, other.requests_waiting, add),
        waiting_by_reason=MappingProxyType(dict(sorted(reasons.items()))),
        kv_cache_usage=_both(one.kv_cache_usage, other.kv_cache_usage, max),
        active_adapters=one.active_adapters | other.active_adapters,
        max_loras=_both(one.max_loras, other.max_loras, min),
        requests_finished=_both(one.requests_finished, other.requests_finished, add),
        moments=tuple(sorted((*one.moments, *other.moments), key=lambda moment: -moment.at)),
    )


def _both(one: T | None, other: T | None, made: Callable[[T, T], T]) -> T | None:
    return other if one is None else one if other is None else made(one, other)


def _together(lists: Sequence[tuple[EngineModel, ...]]) -> tuple[EngineModel, ...]:
    """What the first lists, in its order, and then what others list beyond it."""
    first, *others = lists
    if not others:
        return first
    everywhere = set(first).intersection(*others)
    once: dict[str, EngineModel] = {}
    for model in (model for models in lists for model in models):
        once.setdefault(model.name, model)
    return tuple(
        model if model.is_base or model in everywhere else replace(model, partial=True) for model in once.values()
    )
