"""The pinned releases of what nodes need beside Kubernetes, and where the programs are kept."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from e2e.controlplane.versions import cache_root, target

CONTAINERD_VERSION = "2.4.2"
RUNC_VERSION = "1.5.3"
CNI_PLUGINS_VERSION = "1.10.0"
COREDNS_VERSION = "1.15.0"
LOCAL_PATH_PROVISIONER_VERSION = "0.0.30"
METRICS_SERVER_VERSION = "0.9.0"
VERSITYGW_VERSION = "1.8.0"
MINIO_VERSION = "0.0.0-20260212201848-7aac2a2c5b7c"  # its releases have no numbers that Go takes
TOOLS_VERSION = "1"  # of gomod/tools: count up when it changes
KUBERNETES_PROGRAMS = ("kubelet", "kube-proxy", "kube-scheduler")


def module_directory(name: str, version: str, environment: Mapping[str, str] | None = None) -> Path:
    """Where the programs of one release are, or will be, beside those of the control plane."""
    return cache_root(environment) / "bin" / "-".join((name, version, *target()))
