"""`pick`: the pod for a request, or why there is none."""

from __future__ import annotations

from lora_scheduler.routing.chance import Chance
from lora_scheduler.routing.errors import InvalidRules
from lora_scheduler.routing.index import Index
from lora_scheduler.routing.model import Answer, NotLoaded, Picked, RoutingRequest, Unknown
from lora_scheduler.routing.policies import POLICIES
from lora_scheduler.routing.question import Choice, Question
from lora_scheduler.routing.rules import Rules

DEFAULT = Rules()
SUGGESTIONS = 4  # of pods that have room, for an adapter that is nowhere


def pick(index: Index, ask: RoutingRequest, *, now: float, chance: Chance, rules: Rules = DEFAULT) -> Answer:
    """Choose by `rules.policy`. Changes nothing: tell the index by `sent` if the request really goes there.

    Unless the request `may_load`, the answer is a pod that holds all of its adapters, if there is any that it does not
    rule out, and otherwise NotLoaded. Pods that are draining and replicas that are withdrawn are never the answer. The
    same changes of the index and the same draws give the same answer. Raises InvalidRules for an unknown policy.
    """
    policy = POLICIES.get(rules.policy)
    if policy is None:
        raise InvalidRules(f"routing policy {rules.policy!r} does not exist; use one of {', '.join(sorted(POLICIES))}")
    unknown = index.unknown(ask)
    if unknown:
        return Unknown(unknown)
    base_model = index.base_model(ask)
    pool = index.pool(base_model)
    if pool is None:  # the adapter is known, and no pod serves its base model
        return NotLoaded(ask.adapters, base_model)
    question = Question(index, ask, rules, pool, now, chance)
    choice = policy(question)
    return _not_loaded(question, base_model) if choice is None else _picked(question, choice)


def _picked(question: Question, choice: Choice) -> Picked:
    slot = choice.slot
    return Picked(
        slot.endpoint,
        {adapter: slot.held[adapter] for adapter in question.ask.adapters if adapter in slot.held},
        question.missing(slot),
        question.load(slot),
        choice.score,
        choice.spill.pod if choice.spill is not None else None,
    )


def _not_loaded(question: Question, base_model: str) -> NotLoaded:
    ask, index = question.ask, question.index
    absent = tuple(adapter for adapter in ask.adapters if not question.allowed(index.holding(adapter)))
    loading = {slot.pod for adapter in ask.adapters for slot in question.allowed(index.loading(adapter))}
    roomy = [slot for slot in question.roomy(SUGGESTIONS) if slot.pod not in loading]
    roomy.sort(key=lambda slot: (question.load(slot), slot.pod))
    return NotLoaded(absent or ask.adapters, base_model, tuple(sorted(loading)), tuple(slot.pod for slot in roomy))
