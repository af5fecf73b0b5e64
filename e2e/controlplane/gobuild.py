"""Builds the programs from their published Go modules, as pinned by gomod/."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterable
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


def build_programs(names: Iterable[str], directory: Path) -> None:
    """Put the named programs into `directory`, which exists. Each appears there whole or not at all.

    Raises:
        BinariesError: there is no `go`, or it failed; the message ends with what it said.
    """
    go = shutil.which("go")
    if go is None:
        raise BinariesError("there is no `go` on the PATH")
    environment = {**os.environ, "CGO_ENABLED": "0", "GOWORK": "off", "GOFLAGS": "-mod=readonly"}
    for name in names:
        folder, package, flags = _recipe(name)
        module = MODULES / folder
        with tempfile.TemporaryDirectory(prefix=".build-", dir=directory) as scratch:
            ready = Path(scratch, name)
            command = [go, "build", "-trimpath", "-buildvcs=false", "-ldflags", flags, "-o", str(ready), package]
            with progress(f"building {name} with go"):
                result = subprocess.run(command, cwd=module, env=environment, capture_output=True, text=True)
                if result.returncode != 0:
                    said = "\n".join(result.stderr.strip().splitlines()[-5:])
                    raise BinariesError(f"{name}: go build ended with {result.returncode}: {said}")
            ready.replace(directory / name)
