"""Images for a cluster that the user has already (USE_EXISTING_CLUSTER=1)."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from e2e.cluster.errors import ImageError
from e2e.controlplane.existing import existing_kubectl


def load_into_existing(archive: Path) -> None:
    """Load an image into the nodes of kind or minikube, whichever the current context is of.

    Raises:
        ImageError: it is another kind of cluster, or the command failed.
    """
    done = subprocess.run([existing_kubectl(os.environ), "config", "current-context"], capture_output=True, text=True)
    command = load_command(done.stdout.strip(), archive)
    if shutil.which(command[0]) is None:
        raise ImageError(f"{command[0]} is not on the PATH, and only it can load {archive} into its nodes")
    loaded = subprocess.run(command, capture_output=True, text=True)
    if loaded.returncode != 0:
        raise ImageError(f"{' '.join(command)}: {loaded.stderr.strip()}")


def load_command(context: str, archive: Path) -> list[str]:
    """The command that loads the image into the cluster of this context.

    Raises:
        ImageError: its nodes can be reached through a registry alone.
    """
    if context.startswith("kind-"):
        return ["kind", "load", "image-archive", str(archive), "--name", context.removeprefix("kind-")]
    if context == "minikube":
        return ["minikube", "image", "load", str(archive)]
    raise ImageError(f"images cannot be loaded into the cluster of context {context!r}: push them to its registry")
