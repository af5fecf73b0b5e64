"""What vLLM makes of each adapter in `adapters/`, by release: seen on 0.12, 0.16, 0.28, 0.30 and 0.32.

Right and wrong are measured against what peft itself answers with the same adapter and model (`answers.json`).
"""

from __future__ import annotations

import json
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any

from .by_release import Since, always

ANSWERS = Path(__file__).with_name("answers.json")


class Outcome(StrEnum):
    """What happens to a load and to the requests after it."""

    RIGHT = "loads and answers as peft does"
    AS_LORA = "loads and answers like `lora`, which peft does not take from this folder"
    WRONG = "loads and answers something else than peft"
    REFUSED = "is refused as a load failure"
    NOT_FOUND = "is not found"


_RIGHT = (
    "lora", "lora-v2", "lora-v3", "lora-r8", "lora-r16", "lora-every-layer", "lora-q-only", "lora-down-only",
    "lora-last-layer", "lora-by-regex", "lora-gaussian", "lora-bf16", "lora-embedding", "lora-head", "rslora",
    "lora-eva", "lora-mica", "lora-orthogonal", "target-parameters", "pickle-only", "surplus-layers", "other-base",
    "says-nothing-of-rslora", "unknown-setting",
)  # fmt: skip
_AS_LORA = ("without-prefix", "doubled-prefix", "halves-disagree", "targets-disagree", "says-ia3")
_WRONG = (
    "too-small-in", "too-small-out", "rank-in-config-higher", "rank-in-config-lower", "other-layers-only", "nan", "inf",
)  # fmt: skip
_REFUSED = (
    "lora-r32", "dora", "bias-all", "modules-to-save", "ia3", "adalora", "loha", "prompt-tuning", "trainable-tokens",
    "kasa", "rank-pattern-too-high", "too-large-in", "too-large-out", "too-large-down", "unknown-module", "without-b",
    "r-missing", "r-zero", "r-as-text", "alpha-missing", "targets-missing",
    "says-dora-without-magnitude", "truncated", "garbage", "empty-file", "no-weights", "config-not-json",
    "config-a-list",
)  # fmt: skip

OUTCOMES: dict[str, Since[Outcome]] = {
    **{name: always(Outcome.RIGHT) for name in _RIGHT},
    **{name: always(Outcome.AS_LORA) for name in _AS_LORA},
    **{name: always(Outcome.WRONG) for name in _WRONG},
    **{name: always(Outcome.REFUSED) for name in _REFUSED},
    "no-config": always(Outcome.NOT_FOUND),
    "rank-pattern": Since({(0,): Outcome.WRONG, (0, 32): Outcome.RIGHT}),
    "alpha-pattern": Since({(0,): Outcome.WRONG, (0, 32): Outcome.RIGHT}),
    "alpha-pattern-anchored": Since({(0,): Outcome.WRONG, (0, 32): Outcome.RIGHT}),
    "rank-pattern-by-regex": Since({(0,): Outcome.WRONG, (0, 32): Outcome.RIGHT}),
    "rslora-with-patterns": Since({(0,): Outcome.WRONG, (0, 32): Outcome.RIGHT}),
    "bdlora": Since({(0,): Outcome.WRONG, (0, 32): Outcome.REFUSED}),
    "qalora": Since({(0,): Outcome.RIGHT, (0, 32): Outcome.REFUSED}),
    "pissa": Since({(0,): Outcome.WRONG, (0, 32): Outcome.REFUSED}),
    "olora": Since({(0,): Outcome.WRONG, (0, 32): Outcome.REFUSED}),
    "alora": Since({(0,): Outcome.WRONG, (0, 32): Outcome.REFUSED}),
    "layer-replication": Since({(0,): Outcome.WRONG, (0, 32): Outcome.REFUSED}),
    # The tensors `lora_B.bias` were read and left unused once; since 0.12 their name is refused.
    "without-tensors": Since({(0,): Outcome.WRONG, (0, 16): Outcome.REFUSED}),
    "lora-bias": Since({(0,): Outcome.WRONG, (0, 12): Outcome.REFUSED}),
}

# A small margin lets an engine rightly choose the other token; a log probability differs by rounding only.
CLEAR_MARGIN = 0.05
SAME_LOGPROB = 0.02


@cache
def _answers() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(ANSWERS.read_text())
    return loaded


def prompt() -> list[int]:
    """The token ids that the answers are for."""
    return list(_answers()["prompt"])


def difference(adapter: str, tokens: list[int], logprobs: list[float]) -> str | None:
    """How an engine's answer differs from peft's with `adapter` ("" is the base); None where it does not."""
    return differs(_answers()["answers"][adapter], tokens, logprobs)


def differs(expected: dict[str, Any], tokens: list[int], logprobs: list[float]) -> str | None:
    """The same for one answer of peft's."""
    if "refused" in expected:
        return f"peft does not take it: {expected['refused']}"
    rows = zip(expected["tokens"], expected["logprobs"], expected["margins"], tokens, logprobs, strict=True)
    for position, (token, logprob, margin, got, got_logprob) in enumerate(rows):
        if got != token and margin < CLEAR_MARGIN:
            return None  # from here on the two tell different stories, both rightly
        if got != token or abs(got_logprob - logprob) > SAME_LOGPROB:
            return f"token {position} is {got} at {got_logprob}, peft says {token} at {logprob}"
    return None
