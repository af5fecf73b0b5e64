"""The pinned releases and the place where their programs are kept.

A change here goes together with a change of the go.mod files under gomod/ (a test compares them).
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Mapping
from pathlib import Path

KUBERNETES_VERSION = "1.36.3"
ETCD_VERSION = "3.7.3"
HELM_VERSION = "4.3.1"
PROGRAMS = ("etcd", "kube-apiserver", "kube-controller-manager", "kubectl")

_ARCHITECTURES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


def target() -> tuple[str, str]:
    """Operating system and architecture as Go and the release pages call them."""
    machine = platform.machine().lower()
    return sys.platform, _ARCHITECTURES.get(machine, machine)


def cache_root(environment: Mapping[str, str] | None = None) -> Path:
    """`LORA_OPERATOR_CACHE`, else `lora-operator` under the user's cache directory."""
    environment = os.environ if environment is None else environment
    if chosen := environment.get("LORA_OPERATOR_CACHE"):
        return Path(chosen).expanduser().absolute() / "lora-operator"
    base = environment.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser().absolute() / "lora-operator"


def binaries_directory(environment: Mapping[str, str] | None = None) -> Path:
    """Where the programs of the pinned versions are, or will be."""
    name = "-".join(("kubernetes", KUBERNETES_VERSION, "etcd", ETCD_VERSION, *target()))
    return cache_root(environment) / "bin" / name


def helm_directory(environment: Mapping[str, str] | None = None) -> Path:
    """Where the pinned Helm is, or will be: apart from the others, which are needed without it."""
    return cache_root(environment) / "bin" / "-".join(("helm", HELM_VERSION, *target()))
