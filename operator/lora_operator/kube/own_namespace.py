"""The namespace of the operator's own objects: its Lease, and the record of who was asked for."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

DEFAULT_NAMESPACE = "lora-operator-system"
NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


def own_namespace(chosen: str = "", environment: Mapping[str, str] | None = None, file: Path = NAMESPACE_FILE) -> str:
    """The one that was chosen by a flag, else POD_NAMESPACE, else that of the pod's service account, else the default.

    Operator and routers have to come to the same answer: give all of them the flag where they live apart.
    """
    known = chosen or (os.environ if environment is None else environment).get("POD_NAMESPACE")
    if known:
        return known
    try:
        return file.read_text().strip() or DEFAULT_NAMESPACE
    except (OSError, ValueError):
        return DEFAULT_NAMESPACE
