"""The page for users knows every reason that the code can give, and none that it cannot."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from lora_operator.api.v1alpha1 import LoraAdapterSpec
from lora_operator.artifacts import RefusedReason
from tests.delivery.reasons_in_code import PACKAGE, reasons

PAGE = (Path(__file__).parents[2] / "docs" / "sources.md").read_text()


def on_the_page() -> set[str]:
    """What stands in the first column of the tables of reasons."""
    tables = PAGE.partition("## What can go wrong")[2]
    cells = (line.split("|")[1] for line in tables.splitlines() if line.startswith("| `"))
    return {word for cell in cells for word in re.findall(r"`(\w+)`", cell)}


def test_every_reason_is_on_the_page() -> None:
    given = reasons() | {reason.value for reason in RefusedReason}
    assert len(given) > 100
    assert sorted(given - on_the_page()) == []


def test_every_reason_on_the_page_is_in_the_code() -> None:
    code = "".join(path.read_text() for path in PACKAGE.rglob("*.py"))
    assert sorted(reason for reason in on_the_page() if f'"{reason}"' not in code) == []


def examples() -> list[dict[str, object]]:
    blocks = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    return [document for block in blocks for document in yaml.safe_load_all(block)]


@pytest.mark.parametrize("type_", ["huggingface", "s3", "azure", "http", "local"])
def test_each_type_has_an_example_that_the_model_accepts(type_: str) -> None:
    specs = [each["spec"] for each in examples() if each["kind"] == "LoraAdapter"]
    (spec,) = [spec for spec in specs if spec["adapterSource"]["type"] == type_]  # type: ignore[index]
    assert LoraAdapterSpec.model_validate(spec).adapter_source.type.value == type_
