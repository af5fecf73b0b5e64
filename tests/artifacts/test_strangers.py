"""Adapters as people have them: what is refused is certain to be wrong, and the rest is served. Names are made up.

What engines do with each kind is in the contract suite, where the real PEFT wrote the adapters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.contract.corpus import shapes_of
from lora_operator.artifacts import AdapterRefused, Inspection, RefusedReason, inspect
from tests.artifacts.written_adapter import config_of, write_adapter

FOLDER = Path(__file__).parent / "strangers"


def cases(name: str, label: str) -> list[Any]:
    found = yaml.safe_load((FOLDER / f"{name}.yaml").read_text())
    return [pytest.param(case, id=label.format_map(case)) for case in found]


def verdict(folder: Path, **options: Any) -> Inspection | RefusedReason:
    try:
        return inspect(folder, **options)
    except AdapterRefused as refused:
        return refused.reason


@pytest.mark.parametrize("case", cases("trainings", "{what}"))
def test_an_adapter_is_refused_only_where_it_is_certain_to_be_wrong(tmp_path: Path, case: dict[str, Any]) -> None:
    found = verdict(write_adapter(tmp_path, shapes=shapes_of(case), config=config_of(**case["config"])))
    if "refused" in case:
        assert found == case["refused"]
        return
    assert isinstance(found, Inspection), found
    assert found.features == frozenset(case.get("features", ()))
    assert case.get("doubt", "") in "; ".join(found.doubts) and bool(found.doubts) is ("doubt" in case), found.doubts


@pytest.mark.parametrize("case", cases("base_models", "{trained_on} for {served}"))
def test_names_of_base_models_are_a_reason_only_where_they_contradict_each_other(
    tmp_path: Path, case: dict[str, Any]
) -> None:
    folder = write_adapter(tmp_path, base_model_name_or_path=case["trained_on"])
    found = verdict(folder, served_base_model=case["served"], base_aliases=tuple(case.get("behind", ())))
    if case.get("refused"):
        assert found is RefusedReason.BASE_MODEL_MISMATCH
    else:
        assert isinstance(found, Inspection), found
