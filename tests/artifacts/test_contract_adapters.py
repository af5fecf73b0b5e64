"""Adapters written by the real PEFT, and spoiled ones made from them: what inspection says of each.

Right is: an adapter that is accepted here is one that PEFT itself takes, and whose features are named where a release
of the engine leaves them out. What engines do with each is in the contract suite.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from e2e.contract.outcomes import OUTCOMES, Outcome
from lora_operator.artifacts import AdapterRefused, BaseModelShape, RefusedReason, inspect
from lora_operator.vllm.quirks import unsupported_features

CONTRACT = Path(__file__).parents[2] / "e2e" / "contract"
ADAPTERS = CONTRACT / "adapters"
ACCEPTED = {
    "alpha-pattern-anchored": {"alpha_pattern"},
    "rank-pattern-by-regex": {"rank_pattern"},
    "rslora-with-patterns": {"alpha_pattern", "rank_pattern", "rslora"},
    "alpha-pattern": {"alpha_pattern"},
    "rank-pattern": {"rank_pattern"},
    "rank-pattern-too-high": {"rank_pattern"},
    "rslora": {"rslora"},
    "other-base": set(),  # its layers fit: another name is a doubt
    # a training's switch that is not in the files cannot be seen
    "says-nothing-of-rslora": set(),
}
REFUSED = {
    "bdlora": RefusedReason.FEATURE_UNSUPPORTED,
    "kasa": RefusedReason.FEATURE_UNSUPPORTED,
    "qalora": RefusedReason.FEATURE_UNSUPPORTED,
    "adalora": RefusedReason.PEFT_TYPE_UNSUPPORTED,
    "alora": RefusedReason.FEATURE_UNSUPPORTED,
    "bias-all": RefusedReason.BIAS_UNSUPPORTED,
    "dora": RefusedReason.DORA_UNSUPPORTED,
    "halves-disagree": RefusedReason.RANK_MISMATCH,
    "ia3": RefusedReason.PEFT_TYPE_UNSUPPORTED,
    "inf": RefusedReason.NOT_FINITE,
    "layer-replication": RefusedReason.FEATURE_UNSUPPORTED,
    "loha": RefusedReason.PEFT_TYPE_UNSUPPORTED,
    "lora-bias": RefusedReason.BIAS_UNSUPPORTED,
    "modules-to-save": RefusedReason.MODULES_TO_SAVE_UNSUPPORTED,
    "nan": RefusedReason.NOT_FINITE,
    "olora": RefusedReason.INIT_UNSUPPORTED,
    "pickle-only": RefusedReason.PICKLE_REFUSED,
    "pissa": RefusedReason.INIT_UNSUPPORTED,
    "rank-in-config-higher": RefusedReason.RANK_MISMATCH,
    "rank-in-config-lower": RefusedReason.RANK_MISMATCH,
    "says-ia3": RefusedReason.PEFT_TYPE_UNSUPPORTED,
    "surplus-layers": RefusedReason.LAYERS_MISMATCH,
    "too-large-in": RefusedReason.SHAPE_MISMATCH,
    "too-small-out": RefusedReason.SHAPE_MISMATCH,
    "trainable-tokens": RefusedReason.FEATURE_UNSUPPORTED,
    "truncated": RefusedReason.FILE_TRUNCATED,
}


def folders() -> list[str]:
    return sorted(path.name for path in ADAPTERS.iterdir() if path.is_dir()) if ADAPTERS.is_dir() else []


def answer(name: str) -> tuple[RefusedReason | None, set[str]]:
    base = BaseModelShape.from_config(CONTRACT / "model" / "config.json")
    assert base is not None
    try:
        return None, set(inspect(ADAPTERS / name, base=base, served_base_model="tiny").features)
    except AdapterRefused as refused:
        return refused.reason, set()


@pytest.mark.parametrize("name", [name for name in folders() if name.startswith("lora") and name != "lora-bias"])
def test_accepts_plain_lora_as_peft_writes_it(name: str) -> None:
    assert answer(name) == (None, set())


@pytest.mark.parametrize("name", [name for name in folders() if name in ACCEPTED])
def test_accepts_what_some_releases_serve_and_names_the_feature(name: str) -> None:
    assert answer(name) == (None, ACCEPTED[name])


@pytest.mark.parametrize("name", [name for name in folders() if name in REFUSED])
def test_refuses_all_others_with_the_reason(name: str) -> None:
    assert answer(name)[0] is REFUSED[name]


# Right on every release, and refused all the same: a pickle runs code, and the others cannot be told from a mix-up.
REFUSED_THOUGH_RIGHT = {
    "pickle-only",
    "surplus-layers",
    "unknown-setting",
    "qalora",  # right before 0.32 only because these releases do not look at what it needs
    "target-parameters",  # what it adds to fused weights is not inspected yet
}
# PEFT finds none of its tensors; engines take them for what they are called, and answer as with the prefix.
WITHOUT_PREFIX = "without-prefix"
RELEASES = [(0, 8, 5), (0, 10, 2), (0, 12, 0), (0, 16, 0), (0, 20, 2), (0, 25, 1), (0, 28, 0), (0, 30, 0), (0, 32, 0)]
MAX_LORA_RANK = 16


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("name", sorted(OUTCOMES))
def test_what_is_let_through_to_a_release_is_what_that_release_answers_rightly(
    name: str, release: tuple[int, int, int]
) -> None:
    reason, features = answer(name)
    let_through = reason is None and not unsupported_features(".".join(map(str, release)), features)
    right = OUTCOMES[name][release] is Outcome.RIGHT or name == WITHOUT_PREFIX
    if let_through and inspect(ADAPTERS / name).rank <= MAX_LORA_RANK:
        assert right
    if right and name not in REFUSED_THOUGH_RIGHT:
        assert let_through


@pytest.mark.parametrize("name", folders())
def test_never_accepts_what_peft_itself_refuses_but_names_without_their_prefix(name: str) -> None:
    refused_by_peft = "refused" in json.loads((CONTRACT / "answers.json").read_text())["answers"].get(name, {})
    if refused_by_peft and name != WITHOUT_PREFIX:
        assert answer(name)[0] is not None
