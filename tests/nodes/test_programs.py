"""Where the programs of nodes come from: nothing here downloads or builds anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from e2e.cluster import programs
from e2e.cluster.programs import MODULES, fills, find_programs
from e2e.cluster.versions import KUBERNETES_PROGRAMS, module_directory
from e2e.controlplane import BinariesError
from e2e.controlplane.gobuild import GoPackage, install_package
from e2e.controlplane.versions import PROGRAMS, binaries_directory


def a_program(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """One in which the cache has everything."""
    environment = {"LORA_OPERATOR_CACHE": str(tmp_path / "cache")}
    for name in (*PROGRAMS, *KUBERNETES_PROGRAMS):
        a_program(binaries_directory(environment) / name)
    for module in MODULES:
        for name in module.programs:
            a_program(module_directory(module.name, module.version, environment) / name)
    return environment


def test_what_is_in_the_cache_is_taken(environment: dict[str, str], tmp_path: Path) -> None:
    found = find_programs(environment)
    assert {"kubelet", "containerd", "runc", "bridge", "coredns", "pause", "kubectl", "etcd"} <= set(found)
    assert all(tmp_path / "cache" in path.parents for path in found.values())


def test_folder_of_ones_own_comes_first(environment: dict[str, str], tmp_path: Path) -> None:
    for name in ("kubelet", "runc"):
        a_program(tmp_path / "mine" / name)
    found = find_programs({**environment, "KUBEBUILDER_ASSETS": str(tmp_path / "mine")})
    assert found["kubelet"] == tmp_path / "mine" / "kubelet"
    assert found["runc"] == tmp_path / "mine" / "runc"
    assert found["containerd"].parent == module_directory("containerd", programs.CONTAINERD_VERSION, environment)


def test_official_release_is_tried_before_a_build_where_there_is_one() -> None:
    ways = {module.name: [title for title, _ in fills(module)] for module in MODULES}
    assert ways["containerd"] == ["official release", "build from Go modules"]
    assert ways["cluster-tools"] == ["build from Go modules"]


def test_what_can_be_had_in_no_way_is_an_error_with_what_was_tried(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(names: object, directory: Path) -> None:
        raise BinariesError("no way through")

    (module_directory("runc", programs.RUNC_VERSION, environment) / "runc").unlink()
    monkeypatch.setattr(programs, "fills", lambda module: [("official release", refuse)])
    with pytest.raises(BinariesError, match=r"no way to get runc worked[\s\S]*official release: no way through"):
        find_programs(environment)


def test_missing_c_library_is_named_with_its_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("e2e.controlplane.gobuild.shutil.which", lambda name: None if name == "gcc" else f"/bin/{name}")
    package = GoPackage("example.com/runc", "1.0.0", c_library="libseccomp")
    with pytest.raises(BinariesError, match=r"runc needs a C compiler and libseccomp: apt install .*libseccomp-dev"):
        install_package("runc", package, tmp_path)
