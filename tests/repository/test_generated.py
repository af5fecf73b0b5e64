"""What is generated is checked in as it is generated."""

from __future__ import annotations

from pathlib import Path

import pytest

from lora_operator.api import crd
from lora_operator.tools import crdgen

CRDS = Path(__file__).parents[2] / "crds"


def test_the_crds_are_what_the_models_generate() -> None:
    names = {crd.file_name(plural) for plural in crd.PLURALS}
    assert {path.name for path in CRDS.iterdir()} == names
    assert [crdgen.main(["--check", str(CRDS / name)]) for name in names] == [0, 0]


def test_a_crd_that_differs_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    other = tmp_path / "crd.yaml"
    other.write_text(crdgen.render().replace("shortNames", "longNames"))
    assert crdgen.main(["--check", str(other)]) == 1
    message = capsys.readouterr().err
    assert "-    longNames:" in message
    assert "run make crds" in message


def test_generates_the_same_each_time() -> None:
    assert [crdgen.render(plural) for plural in crd.PLURALS] == [crdgen.render(plural) for plural in crd.PLURALS]
