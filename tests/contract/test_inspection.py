"""Our inspection against what vLLM makes of the same folders.

The one side is `lora_operator.artifacts.inspect` with the quirks of a release, the other the outcomes that were seen on
real servers (`e2e/contract/outcomes.py`; `make test-vllm` checks them again), measured against peft's own answers.
"""

from __future__ import annotations

from functools import cache

import pytest

from e2e.contract.by_release import release_of
from e2e.contract.outcomes import OUTCOMES, Outcome
from e2e.contract.target import ADAPTERS, BASE, HERE
from lora_operator.artifacts import AdapterRefused, BaseModelShape, Inspection, inspect
from lora_operator.vllm.quirks import unsupported_features

RELEASES = ("0.8.5", "0.10.2", "0.12.0", "0.16.0", "0.20.2", "0.25.1", "0.28.0", "0.30.0", "0.31.0", "0.32.0", "0.33.0")
MAX_RANK = 16

# Folders that vLLM would answer rightly from, and that we refuse nevertheless.
STRICTER = {
    "pickle-only": "a pickle runs code when it is read",
    "surplus-layers": "layers that the base lacks mean that the adapter is for another base",
    "unknown-setting": "a setting of tomorrow may change the result",
    "qalora": "no release is known to honour it",
}


@cache
def _inspected(name: str) -> Inspection | AdapterRefused:
    try:
        base = BaseModelShape.from_config(HERE / "model" / "config.json")
        return inspect(ADAPTERS / name, base=base, served_base_model=BASE)
    except AdapterRefused as refused:
        return refused


def _accepted(name: str, release: str) -> bool:
    inspected = _inspected(name)
    if isinstance(inspected, AdapterRefused) or inspected.rank > MAX_RANK:
        return False
    return not unsupported_features(release, inspected.features)


@pytest.mark.parametrize("name", sorted(OUTCOMES))
def test_nothing_is_accepted_that_a_release_refuses_or_answers_wrongly(name: str) -> None:
    accepted = {release: OUTCOMES[name][release_of(release)] for release in RELEASES if _accepted(name, release)}
    # vLLM takes these names as if they had the prefix, on each release: the adapter answers as it was trained
    right = {Outcome.RIGHT, Outcome.AS_LORA} if name == "without-prefix" else {Outcome.RIGHT}
    assert set(accepted.values()) <= right, accepted


@pytest.mark.parametrize("name", sorted(OUTCOMES.keys() - STRICTER.keys()))
def test_what_a_release_answers_rightly_is_accepted(name: str) -> None:
    right = [release for release in RELEASES if OUTCOMES[name][release_of(release)] is Outcome.RIGHT]
    assert [release for release in right if not _accepted(name, release)] == [], _inspected(name)


@pytest.mark.parametrize("name", sorted(STRICTER))
def test_the_stricter_refusals_are_still_refusals(name: str) -> None:
    assert isinstance(_inspected(name), AdapterRefused)


def test_every_adapter_folder_has_an_outcome() -> None:
    assert {folder.name for folder in ADAPTERS.iterdir()} == OUTCOMES.keys()
