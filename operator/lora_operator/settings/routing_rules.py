"""How picks choose, as flags have it."""

from __future__ import annotations

from dataclasses import fields, replace

from lora_operator.settings.options import SettingsError
from lora_scheduler.routing import POLICIES, InvalidRules, Rules, Weights

POLICY_HELP = "how a pick chooses among the pods that hold the adapter, where the request does not say"
THRESHOLD_HELP = "for policy threshold: the probability that a request goes where its adapter is active"
WEIGHTS_HELP = (
    "what counts how much in policy weighted, in explain and in POST /v1/match, for example "
    "own-resident=10,shared-resident=5,free-slot=1,prefix=5,queue-depth=10; what is not named keeps that value"
)
PREFIX_BLOCKS = 1_000_000
PREFIX_HELP = (
    "how many blocks of 256 characters of prompts are remembered, of all pods together, so that a prompt goes where "
    "its beginning is cached; a million take some 110 MB (0: off)"
)
POLICY_NAMES = tuple(sorted(POLICIES))
_NAMES = {item.name.replace("_", "-"): item.name for item in fields(Weights)}


def rules_of(policy: str, threshold: float, weights: str) -> Rules:
    """Raises SettingsError."""
    try:
        return Rules(policy, affinity=threshold, weights=_weights(weights))
    except InvalidRules as error:
        raise SettingsError(f"--routing-policy, --routing-threshold, --routing-weights: {error}") from error


def _weights(text: str) -> Weights:
    given: dict[str, float] = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, _, value = part.partition("=")
        if name not in _NAMES:
            raise SettingsError(f"--routing-weights: there is no weight {name!r}; use {', '.join(_NAMES)}")
        try:
            given[_NAMES[name]] = float(value)
        except ValueError as error:
            raise SettingsError(f"--routing-weights: {part!r} is not NAME=NUMBER") from error
    return replace(Weights(), **given)
