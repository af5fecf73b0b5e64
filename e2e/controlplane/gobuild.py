"""Builds the programs from their published Go modules, as pinned by gomod/."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from e2e.controlplane.errors import BinariesError
from e2e.controlplane.progress import progress
from e2e.controlplane.versions import HELM_VERSION, KUBERNETES_VERSION

MODULES = Path(__file__).parent / "gomod"


def linker_flags() -> str:
    """Without these stamps the server calls itself v0.0.0, which clients and controllers take at its word."""
    major, minor, _ = KUBERNETES_VERSION.split(".")
    stamps = {"gitVersion": f"v{KUBERNETES_VERSION}", "gitMajor": major, "gitMinor": minor}
    packages = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    return " ".join(
        ["-s -w", *(f"-X {package}.{key}={value}" for package in packages for key, value in stamps.items())]
    )


def _recipe(name: str) -> tuple[str, str, str]:
    """The folder under gomod/, the package to build there, and the flags of the linker."""
    if name == "etcd":
        return "etcd", ".", "-s -w"
    if name == "helm":
        version = f"-s -w -X helm.sh/helm/v4/internal/version.version=v{HELM_VERSION}"
        return "helm", "helm.sh/helm/v4/cmd/helm", version
    return "kubernetes", f"k8s.io/kubernetes/cmd/{name}", linker_flags()


@dataclass(frozen=True, slots=True)
class GoPackage:
    """A program that is built as its own published module pins it; `module` instead: a folder of this repository."""

    path: str
    version: str
    linker_flags: str = "-s -w"
    tags: str = ""  # separated by commas
    c_library: str = ""  # as pkg-config calls it
    module: Path | None = None


def build_programs(names: Iterable[str], directory: Path) -> None:
    """Put the named programs into `directory`, which exists. Each appears there whole or not at all.

    Raises:
        BinariesError: there is no `go`, or it failed; the message ends with what it said.
    """
    for name in names:
        folder, package, flags = _recipe(name)
        _go("build", name, ["-ldflags", flags], package, directory, MODULES / folder)


def install_package(name: str, package: GoPackage, directory: Path) -> None:
    """Put the program `name`, which is what `package` builds, into `directory`, whole or not at all.

    Raises:
        BinariesError: there is no `go`, or no C compiler or library that it needs, or the build failed.
    """
    arguments = ["-ldflags", package.linker_flags, *(["-tags", package.tags] if package.tags else [])]
    if package.module is not None:
        _go("build", name, arguments, package.path, directory, package.module)
        return
    if package.c_library:
        _check_c_library(name, package.c_library)
    with tempfile.TemporaryDirectory(prefix=".from-", dir=directory) as outside:  # of any module
        target = f"{package.path}@v{package.version}"
        _go("install", name, arguments, target, directory, Path(outside), cgo=bool(package.c_library))


def _check_c_library(name: str, library: str) -> None:
    absent = [program for program in ("gcc", "pkg-config") if shutil.which(program) is None]
    if absent or subprocess.run(["pkg-config", "--exists", library]).returncode != 0:
        raise BinariesError(
            f"{name} needs a C compiler and {library}: apt install gcc pkg-config {library}-dev (Debian, Ubuntu)"
        )


def _go(
    verb: str, name: str, arguments: Sequence[str], package: str, directory: Path, module: Path, *, cgo: bool = False
) -> None:
    go = shutil.which("go")
    if go is None:
        raise BinariesError("there is no `go` on the PATH")
    with tempfile.TemporaryDirectory(prefix=".build-", dir=directory) as scratch:
        environment = _environment(scratch, cgo)
        ready = Path(scratch, name)
        output = ["-o", str(ready)] if verb == "build" else []
        command = [go, verb, "-trimpath", "-buildvcs=false", *arguments, *output, package]
        with progress(f"building {name} with go"):
            result = subprocess.run(command, cwd=module, env=environment, capture_output=True, text=True)
            if result.returncode != 0:
                said = "\n".join(result.stderr.strip().splitlines()[-5:])
                raise BinariesError(f"{name}: go {verb} ended with {result.returncode}: {said}")
        ready.replace(directory / name)


def _environment(scratch: str, cgo: bool) -> Mapping[str, str]:
    return {
        **os.environ, "CGO_ENABLED": str(int(cgo)), "GOWORK": "off", "GOFLAGS": "-mod=readonly", "GOBIN": scratch,
    }  # fmt: skip
