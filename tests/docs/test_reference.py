"""The reference of fields is what the definition says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lora_operator.api.crd import definition
from lora_operator.tools import reference
from tests.docs.pages import PAGES, ROOT

PAGE = PAGES["docs/crd-reference.md"]


def test_the_page_is_what_the_models_give() -> None:
    assert reference.main(["--check", str(ROOT / "docs" / "crd-reference.md")]) == 0


def test_a_page_that_differs_is_refused_with_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "crd-reference.md"
    other.write_text(PAGE.replace("maxReplicas", "mostReplicas"))
    assert reference.main(["--check", str(other)]) == 1
    assert "run make crds" in capsys.readouterr().err


def test_every_field_says_what_it_means_and_every_rule_is_there() -> None:
    schema = definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]
    fields = [one for name in ("spec", "status") for one in fields_of(name, schema[name])]
    assert len(fields) > 50
    for path, field in fields:
        assert len(field.get("description", "")) > 10, path
        assert f"`{path.rpartition('.')[2]}`" in PAGE, path
        for rule in field.get("x-kubernetes-validations", ()):
            assert f"``{rule['rule']}``" in PAGE, path


def fields_of(path: str, schema: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """All fields below, and the object itself."""
    found = [(path, schema)] if "." in path else []
    inner = schema.get("items", schema)
    for name, field in inner.get("properties", {}).items():
        found += fields_of(f"{path}.{name}", field)
    return found
