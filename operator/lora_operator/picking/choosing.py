"""From a question to a route or a refusal: names are looked up, the router decides, outcomes get their HTTP status."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from lora_operator.picking.answers import Answer, Refusal, Route
from lora_operator.picking.automatic import Automatic
from lora_operator.picking.base_models import Bases
from lora_operator.picking.model_list import ModelList
from lora_operator.picking.question import Question
from lora_operator.picking.request_headers import NAMESPACE_HEADER
from lora_operator.router.deciding import Chosen, Decider, Loading, Outcome, Refused, Unknown, not_found
from lora_operator.router.entries import Entry
from lora_operator.router.picker import NONE
from lora_operator.router.queries import AmbiguousAdapter, UnknownAdapter, find
from lora_operator.router.table import RoutingTable

MOST_WAITING = 1000
RETRY_SECONDS = 1
MODEL = "model"  # by its public name, the one that answers
SELECTED = "selected"  # the adapter that was chosen by what the request says
FALLBACK = "fallback"  # why a base model answers for an adapter
OUTSIDE = "no pod that answers for {} is among the endpoints that the gateway allows"


class Choosing:
    """`endpoints`: how many addresses an answer may have, of pods that all know the adapter by the same name."""

    def __init__(
        self, table: RoutingTable, decider: Decider, bases: Bases, automatic: Automatic, *, wait_seconds: float = 0.0,
        endpoints: int = 1,
    ) -> None:  # fmt: skip
        self._table = table
        self._decider = decider
        self._bases = bases
        self._wait_seconds = wait_seconds
        self._endpoints = endpoints
        self._automatic = automatic
        self._models = ModelList(table, bases, automatic)

    async def resolved(self, question: Question, members: Mapping[str, Any]) -> Question | Refusal:
        """With the model that is meant, where the request leaves the choice to us."""
        return await self._automatic.resolve(question, members) if self._table.loaded else question

    def at_once(self, question: Question) -> Route | Refusal | None:
        """As things are now; None where the adapter is loaded on demand: `in_time` waits for it."""
        if not question.model:
            return self._any(question)
        namespace = question.namespace or None
        outcome = self._decider.choose(
            question.model, namespace, avoid=self._outside(question), prompt=question.prompt, owners=question.owners
        )
        if isinstance(outcome, Unknown) and not outcome.namespaces:
            served = self._base(question)
            if served is not None:
                return served
        entry = outcome.entry if isinstance(outcome, Refused) else None
        if entry is not None and entry.on_demand and not entry.endpoints:
            return None
        return self._answer(question, outcome)

    async def in_time(self, question: Question) -> Route | Refusal:
        """After asking for the adapter to be loaded, and waiting for it as long as is allowed. Cancel it at will."""
        if self._decider.waiting >= MOST_WAITING:
            text = f"{MOST_WAITING} requests wait for adapters already; come again"
            return Refusal("too_many", 429, "TooManyWaiting", text, RETRY_SECONDS)
        outcome = await self._decider.decide(
            question.model,
            question.namespace or None,
            avoid=self._outside(question),
            wait_seconds=self._wait_seconds,
            prompt=question.prompt,
            owners=question.owners,
        )
        return self._answer(question, outcome)

    def models(self, question: Question) -> Answer | Refusal:
        """All models, or the one that is named: as they are known, without asking for anything."""
        if not self._table.loaded:
            return _not_listed_yet()
        if not question.model:
            return self._models.all(question.namespace, question.owners)
        try:
            entry = find(self._table, question.model, question.namespace or None, question.owners)
        except (AmbiguousAdapter, UnknownAdapter) as error:
            found = self._models.other(question)
            return found or _unknown(question, not_found(error))
        return self._models.adapter(entry)

    def _answer(self, question: Question, outcome: Outcome) -> Route | Refusal:
        if isinstance(outcome, Chosen):
            return self._route(question, outcome)
        if isinstance(outcome, Unknown):
            return _unknown(question, outcome)
        return self._instead(question, outcome) or self._refusal(question, outcome)

    def _instead(self, question: Question, outcome: Loading | Refused) -> Route | None:
        """The base model of an adapter that no pod answers for, where its LoraAdapter wants that."""
        entry = outcome.entry
        if entry is None or not entry.falls_back or entry.endpoints:
            return None
        base = self._base(replace(question, model=entry.base_model, namespace=entry.namespace))
        if not isinstance(base, Route):
            return None
        return replace(base, kind="fallback", said={**base.said, FALLBACK: outcome.reason or "NotLoaded"})

    def _refusal(self, question: Question, outcome: Loading | Refused) -> Refusal:
        if isinstance(outcome, Loading):
            text = f"adapter {outcome.entry.name} is being loaded and did not come in time: {outcome.message}"
            return Refusal("loading", 503, outcome.reason or "Loading", text, outcome.retry_after_seconds)
        kind, status = ("too_many", 429) if outcome.kind == "too-many-loads" else ("not_loaded", 503)
        reason, text = outcome.reason or "NotLoaded", outcome.message
        if question.subset is not None and outcome.entry is not None and outcome.entry.endpoints:
            reason, text = "NoneAllowed", OUTSIDE.format(f"adapter {outcome.entry.name}")
        return Refusal(kind, status, reason, text, outcome.retry_after_seconds)

    def _route(self, question: Question, chosen: Chosen) -> Route | Refusal:
        first, subset = chosen.endpoint, question.subset
        if subset is not None and first.address not in subset:  # it came while we waited
            text = OUTSIDE.format(f"adapter {chosen.entry.name}")
            return Refusal("not_loaded", 503, "NoneAllowed", text, RETRY_SECONDS)
        addresses = [first.address]
        for other in chosen.entry.endpoints if self._endpoints > 1 else ():
            if len(addresses) == self._endpoints:
                break
            allowed = subset is None or other.address in subset
            if allowed and other.engine_name == first.engine_name and other.address not in addresses:
                addresses.append(other.address)
        return Route("adapter", tuple(addresses), first.engine_name, {MODEL: chosen.entry.name})

    def _outside(self, question: Question) -> frozenset[str]:
        """The pods of the adapter that are not allowed."""
        if question.subset is None:
            return NONE
        return frozenset(
            one.pod for entry in self._entries(question) for one in entry.endpoints
            if one.address not in question.subset
        )  # fmt: skip

    def _entries(self, question: Question) -> list[Entry]:
        if not question.namespace:
            return [*self._table.named(question.model)]
        entry = self._table.get(question.namespace, question.model)
        return [] if entry is None else [entry]

    def _any(self, question: Question) -> Route | Refusal:
        if not self._table.loaded:
            return _not_listed_yet()
        return self._base(question) or Refusal(
            "not_loaded", 503, "NoPods", "no pod serves any model here now", RETRY_SECONDS
        )

    def _base(self, question: Question) -> Route | Refusal | None:
        """To a pod of the base model of that name, or any; None if no pod serves it."""
        name = question.model
        what = f"base model {name}" if name else "any model"
        namespaces = (question.namespace,) if question.namespace else self._bases.namespaces(name)
        if len(namespaces) > 1:
            return _ambiguous(f"several namespaces have pods that serve {what}: {', '.join(namespaces)}")
        if not namespaces:
            return None
        address = self._bases.choose(namespaces[0], name, question.subset)
        if address is not None:
            return Route("base", (address,), name, {MODEL: name}) if name else Route("any", (address,))
        if question.subset is not None and self._bases.choose(namespaces[0], name, None) is not None:
            return Refusal("not_loaded", 503, "NoneAllowed", OUTSIDE.format(what), RETRY_SECONDS)
        return None


def _not_listed_yet() -> Refusal:
    text = "the API server has not been listed yet; ask another replica, or this one again"
    return Refusal("not_loaded", 503, "NotListedYet", text, RETRY_SECONDS)


def _unknown(question: Question, outcome: Unknown) -> Refusal:
    if outcome.namespaces:
        return _ambiguous(outcome.message)
    near = f"; did you mean {', '.join(outcome.near)}?" if outcome.near else ""
    where = f" in namespace {question.namespace}" if question.namespace else ""
    text = f"the model {question.model} does not exist{where}: no adapter and no base model has this name{near}"
    return Refusal("unknown", 404, "NotFoundError", text, near=outcome.near)


def _ambiguous(message: str) -> Refusal:
    hint = f"have the gateway send the header {NAMESPACE_HEADER}, or give the picker one namespace"
    return Refusal("ambiguous", 400, "AmbiguousModel", f"{message}; {hint}")
