"""Finds Helm, or gets it the ways in which the control plane's programs come: for the charts and their tests alone.

`python -m e2e.controlplane.helm ARGUMENT ...` runs it; with --get alone it only sees to it that it is there.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from e2e.controlplane.binaries import FILLS, Fill, fill_cache
from e2e.controlplane.errors import BinariesError, HelmError
from e2e.controlplane.versions import HELM_VERSION, helm_directory

VARIABLE = "HELM"


def find_helm(environment: Mapping[str, str] | None = None, *, fills: Sequence[tuple[str, Fill]] = FILLS) -> Path:
    """`HELM`, else a helm of the pinned version on the PATH, else the pinned one: cached, downloaded or built.

    Another version on the PATH is left alone: manifests/install is compared with what the pinned one renders.

    Raises:
        BinariesError: it could be had in no way; the message lists the ways and why each failed.
    """
    environment = os.environ if environment is None else environment
    if chosen := environment.get(VARIABLE):
        return Path(chosen).expanduser().absolute()
    tried = [f"{VARIABLE}: not set"]
    if there := shutil.which("helm", path=environment.get("PATH")):
        said = subprocess.run([there, "version", "--short"], capture_output=True, text=True).stdout.strip()
        if said.partition("+")[0] == f"v{HELM_VERSION}":
            return Path(there)
        tried.append(f"PATH: {there} is {said or 'not Helm'}, needed is v{HELM_VERSION}")
    return fill_cache(("helm",), helm_directory(environment), {}, fills, tried)["helm"]


def may_have_helm(environment: Mapping[str, str] | None = None) -> str:
    """Empty if Helm is there, or Go to build it; else why tests that need it are skipped."""
    environment = os.environ if environment is None else environment
    path = environment.get("PATH")
    there = environment.get(VARIABLE) or (helm_directory(environment) / "helm").exists()
    if there or shutil.which("helm", path=path) or shutil.which("go", path=path):
        return ""
    return f"neither helm nor go is on the PATH: install one of them, or name a Helm {HELM_VERSION} in {VARIABLE}"


def run_helm(*arguments: str, kubeconfig: Path | None = None) -> str:
    """Run Helm, on the cluster of `kubeconfig` where there is one, and return what it prints.

    Raises:
        BinariesError: there is no Helm.
        HelmError: it failed.
    """
    environment = os.environ if kubeconfig is None else {**os.environ, "KUBECONFIG": str(kubeconfig)}
    result = subprocess.run([find_helm(), *arguments], env=environment, capture_output=True, text=True)
    if result.returncode != 0:
        raise HelmError(f"helm {' '.join(arguments)}: exit code {result.returncode}: {result.stderr.strip()}")
    return result.stdout


def main() -> int:
    if sys.argv[1:] == ["--get"]:
        if why := may_have_helm():
            sys.stderr.write(f"tests of the charts will be skipped: {why}\n")
            return 0
        sys.argv[1:] = ["version", "--short"]
    try:
        return subprocess.run([find_helm(), *sys.argv[1:]]).returncode
    except BinariesError as error:
        sys.stderr.write(f"{error}\n")
        return 1


if __name__ == "__main__":
    sys.exit(main())
