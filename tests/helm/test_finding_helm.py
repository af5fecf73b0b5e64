"""Where Helm comes from: what is named, the pinned one on the PATH, the cache, then the ways of the control plane."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from e2e.controlplane.errors import BinariesError, HelmError
from e2e.controlplane.gobuild import MODULES
from e2e.controlplane.helm import find_helm, may_have_helm, run_helm
from e2e.controlplane.versions import HELM_VERSION, helm_directory


def a_helm(directory: Path, version: str) -> Path:
    directory.mkdir(parents=True)
    path = directory / "helm"
    path.write_text(f"#!/bin/sh\necho v{version}+gabc\n")
    path.chmod(0o755)
    return path


def must_not_be_asked(names: Sequence[str], directory: Path) -> None:
    raise AssertionError(f"asked for {names}")


def refuse(names: Sequence[str], directory: Path) -> None:
    raise BinariesError("no way through")


def test_the_go_module_names_the_version_that_is_pinned() -> None:
    assert f"helm.sh/helm/v4 v{HELM_VERSION} " in (MODULES / "helm" / "go.mod").read_text()


def test_the_pinned_version_on_the_path_is_taken_and_another_is_not(tmp_path: Path) -> None:
    pinned, other = a_helm(tmp_path / "pinned", HELM_VERSION), a_helm(tmp_path / "other", "3.1.0")
    cache = {"LORA_OPERATOR_CACHE": str(tmp_path / "cache")}
    ways = [("any", must_not_be_asked)]
    assert find_helm(cache | {"PATH": f"{pinned.parent}:/bin"}, fills=ways) == pinned
    kept = a_helm(helm_directory(cache), HELM_VERSION)
    assert find_helm(cache | {"PATH": f"{other.parent}:/bin"}, fills=ways) == kept
    assert find_helm(cache | {"PATH": "/bin", "HELM": str(other)}, fills=ways) == other


def test_when_nothing_works_the_message_lists_the_ways(tmp_path: Path) -> None:
    other = a_helm(tmp_path / "other", "3.1.0")
    environment = {"LORA_OPERATOR_CACHE": str(tmp_path / "cache"), "PATH": f"{other.parent}:/bin"}
    with pytest.raises(BinariesError) as failure:
        find_helm(environment, fills=[("official release", refuse)])
    for line in ("no way to get helm", "is v3.1.0+gabc, needed is", "official release: no way through"):
        assert line in str(failure.value)


def test_without_helm_and_go_tests_are_skipped_with_a_reason(tmp_path: Path) -> None:
    environment = {"LORA_OPERATOR_CACHE": str(tmp_path), "PATH": str(tmp_path)}
    assert "neither helm nor go is on the PATH" in may_have_helm(environment)
    a_helm(helm_directory(environment), HELM_VERSION)
    assert may_have_helm(environment) == ""


def test_a_failure_says_what_helm_said() -> None:
    with pytest.raises(HelmError, match="no-such-chart"):
        run_helm("template", "x", "/no-such-chart")
