"""Finds the programs of nodes, or gets them, the ways in which the control plane's come: first that works wins.

`KUBEBUILDER_ASSETS`, the cache, the official releases, a build from published Go modules.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from e2e.cluster.releases import RELEASES, download_release
from e2e.cluster.versions import (
    CNI_PLUGINS_VERSION,
    CONTAINERD_VERSION,
    COREDNS_VERSION,
    KUBERNETES_PROGRAMS,
    LOCAL_PATH_PROVISIONER_VERSION,
    METRICS_SERVER_VERSION,
    MINIO_VERSION,
    RUNC_VERSION,
    TOOLS_VERSION,
    VERSITYGW_VERSION,
    module_directory,
)
from e2e.controlplane.binaries import FILLS, Fill, fill_cache, find_binaries, from_directory
from e2e.controlplane.gobuild import GoPackage, install_package
from e2e.controlplane.versions import binaries_directory

TOOLS = Path(__file__).parent / "gomod" / "tools"
CONTAINERD = "github.com/containerd/containerd/v2"
# of file systems that no node here has; their drivers would need C libraries
CONTAINERD_TAGS = "no_btrfs,no_devmapper,no_zfs"
CONTAINERD_STAMP = f"-X {CONTAINERD}/version.Version=v{CONTAINERD_VERSION}"
PLUGINS = "github.com/containernetworking/plugins/plugins"


@dataclass(frozen=True, slots=True)
class Module:
    """One release: its programs by name, and the Go package of each."""

    name: str
    version: str
    packages: Mapping[str, GoPackage]

    @property
    def programs(self) -> Sequence[str]:
        return tuple(self.packages)


def _package(path: str, version: str, *, stamp: str = "", tags: str = "", c_library: str = "") -> GoPackage:
    return GoPackage(path, version, linker_flags=f"-s -w {stamp}".strip(), tags=tags, c_library=c_library)


MODULES = (
    Module(
        "containerd",
        CONTAINERD_VERSION,
        {
            name: _package(f"{CONTAINERD}/cmd/{name}", CONTAINERD_VERSION, stamp=CONTAINERD_STAMP, tags=CONTAINERD_TAGS)
            for name in ("containerd", "containerd-shim-runc-v2", "ctr")
        },
    ),
    Module(
        "runc",
        RUNC_VERSION,
        {"runc": _package("github.com/opencontainers/runc", RUNC_VERSION, tags="seccomp", c_library="libseccomp")},
    ),
    Module(
        "cni-plugins",
        CNI_PLUGINS_VERSION,
        {
            path.partition("/")[2]: _package(f"{PLUGINS}/{path}", CNI_PLUGINS_VERSION)
            for path in ("main/bridge", "main/loopback", "ipam/host-local", "meta/portmap")
        },
    ),
    Module("coredns", COREDNS_VERSION, {"coredns": _package("github.com/coredns/coredns", COREDNS_VERSION)}),
    Module(
        "local-path-provisioner",
        LOCAL_PATH_PROVISIONER_VERSION,
        {
            "local-path-provisioner": _package(
                "github.com/rancher/local-path-provisioner", LOCAL_PATH_PROVISIONER_VERSION
            )
        },
    ),
    Module(
        "metrics-server",
        METRICS_SERVER_VERSION,
        {"metrics-server": _package("sigs.k8s.io/metrics-server/cmd/metrics-server", METRICS_SERVER_VERSION)},
    ),
    Module(
        "cluster-tools",
        TOOLS_VERSION,
        {name: GoPackage(f"./{name}", "", module=TOOLS) for name in ("pause", "volume")},
    ),
)


# S3 servers on a folder; only for tests that ask for them.
VERSITYGW = Module(
    "versitygw",
    VERSITYGW_VERSION,
    {"versitygw": _package("github.com/versity/versitygw/cmd/versitygw", VERSITYGW_VERSION)},
)
MINIO = Module("minio", MINIO_VERSION, {"minio": _package("github.com/minio/minio", MINIO_VERSION)})


def find_program(module: Module, environment: Mapping[str, str] | None = None) -> Path:
    """The one program of a module that no cluster needs; it is downloaded or built where it is missing.

    Raises:
        BinariesError: see `find_programs`.
    """
    environment = os.environ if environment is None else environment
    directory = module_directory(module.name, module.version, environment)
    (program,) = _find(module.programs, directory, fills(module), environment).values()
    return program


def find_programs(environment: Mapping[str, str] | None = None) -> dict[str, Path]:
    """Every program of control plane and nodes by its name; what is missing is downloaded or built, once.

    Raises:
        BinariesError: one of them could be had in no way; the message lists the ways and why each failed.
    """
    environment = os.environ if environment is None else environment
    plane = find_binaries(environment)
    programs = {path.name: path for path in (plane.etcd, plane.kube_apiserver, plane.kube_controller_manager)}
    programs["kubectl"] = plane.kubectl
    programs |= _find(KUBERNETES_PROGRAMS, binaries_directory(environment), FILLS, environment)
    for module in MODULES:
        directory = module_directory(module.name, module.version, environment)
        programs |= _find(module.programs, directory, fills(module), environment)
    return programs


def fills(module: Module) -> tuple[tuple[str, Fill], ...]:
    """The ways to get this module's programs into the cache."""
    build: tuple[str, Fill] = ("build from Go modules", partial(_build, module))
    if (release := RELEASES.get(module.name)) is None:
        return (build,)
    download: Callable[[Iterable[str], Path], None] = partial(download_release, release, module.version)
    return ("official release", download), build


def _find(
    programs: Sequence[str], cache: Path, ways: Sequence[tuple[str, Fill]], environment: Mapping[str, str]
) -> dict[str, Path]:
    found, tried = {}, ["KUBEBUILDER_ASSETS: not set"]
    if assets := environment.get("KUBEBUILDER_ASSETS"):
        found = from_directory(Path(assets).expanduser().absolute(), programs)
        tried = [f"KUBEBUILDER_ASSETS: {assets} lacks {', '.join(name for name in programs if name not in found)}"]
    return fill_cache(programs, cache, found, ways, tried)


def _build(module: Module, names: Iterable[str], directory: Path) -> None:
    for name in names:
        install_package(name, module.packages[name], directory)
