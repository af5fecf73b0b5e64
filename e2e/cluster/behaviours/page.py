"""Commands as they stand on a page, in a shell with the programs of the cluster."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

from e2e.cluster.behaviours.kube import Kube
from e2e.controlplane.helm import find_helm

ROOT = Path(__file__).parents[3]


def commands(page: str, mark: str) -> str:
    """Of the block that follows this mark."""
    (found,) = re.findall(rf"<!-- {mark} -->\n```bash\n(.*?)```", (ROOT / page).read_text(), re.S)
    return str(found)


def run(kube: Kube, text: str, folder: Path = ROOT, variables: Mapping[str, str] | None = None) -> str:
    """What they print, in this folder and with these variables.

    Raises:
        AssertionError: one of them failed; the message has what they said.
    """
    programs = {str(program.parent) for program in (kube.kubectl, find_helm())}
    environment = {
        **os.environ,
        "KUBECONFIG": str(kube.kubeconfig),
        "NO_PROXY": "*",
        "no_proxy": "*",
        **(variables or {}),
    }
    environment["PATH"] = ":".join([*programs, os.environ["PATH"]])
    done = subprocess.run(
        ["bash", "-euc", text], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"
    return done.stdout
