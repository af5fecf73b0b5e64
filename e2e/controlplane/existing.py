"""A cluster that the user has already: KUBECONFIG names it, USE_EXISTING_CLUSTER=1 says to use it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

from e2e.controlplane.binaries import find_binaries
from e2e.controlplane.errors import ControlPlaneError


def is_wanted(environment: Mapping[str, str]) -> bool:
    """Whether the environment asks for an existing cluster."""
    return environment.get("USE_EXISTING_CLUSTER", "").lower() in ("1", "true", "yes")


def existing_kubeconfig(environment: Mapping[str, str]) -> Path | None:
    """The kubeconfig to use, or None when the environment does not ask for an existing cluster.

    Raises:
        ControlPlaneError: it does, but names no file that exists.
    """
    if not is_wanted(environment):
        return None
    named = environment.get("KUBECONFIG") or str(Path.home() / ".kube" / "config")
    for part in named.split(os.pathsep):
        if part and Path(part).expanduser().is_file():
            return Path(part).expanduser().absolute()
    raise ControlPlaneError(
        f"USE_EXISTING_CLUSTER is set but {named} does not exist; point KUBECONFIG at the cluster's kubeconfig, "
        "or unset USE_EXISTING_CLUSTER to have a control plane started"
    )


def existing_kubectl(environment: Mapping[str, str]) -> Path:
    """The user's own kubectl, which fits the user's cluster, else the pinned one."""
    if path := shutil.which("kubectl"):
        return Path(path)
    return find_binaries(environment).kubectl


def existing_url(kubectl: Path, kubeconfig: Path) -> str:
    """The address of the API server, which must answer.

    Raises:
        ControlPlaneError: it does not.
    """
    base = [str(kubectl), f"--kubeconfig={kubeconfig}"]
    probe = subprocess.run([*base, "get", "--raw", "/readyz", "--request-timeout=10s"], capture_output=True, text=True)
    if probe.returncode != 0:
        raise ControlPlaneError(f"the cluster of {kubeconfig} does not answer: {probe.stderr.strip()}")
    view = [*base, "config", "view", "--minify", "-o", "jsonpath={.clusters[0].cluster.server}"]
    return subprocess.run(view, capture_output=True, text=True, check=True).stdout.strip()
