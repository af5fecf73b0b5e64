"""Pods as the API server shows them, built for tests."""

from __future__ import annotations

from typing import Any

GROUP = "production-stack.vllm-project"
OPENAI = "vllm/vllm-openai:v0.10.2"


def a_pod(
    *args: str,
    command: list[str] | None = None,
    env: list[dict[str, Any]] | None = None,
    annotations: dict[str, str] | None = None,
    labels: dict[str, str] | None = None,
    image: str = OPENAI,
    name: str = "vllm",
) -> dict[str, Any]:
    """A running pod with one container; `annotations` without the group."""
    container: dict[str, Any] = {"name": name, "image": image, "args": list(args), "env": env or []}
    if command is not None:
        container["command"] = command
    return {
        "metadata": {
            "namespace": "ml",
            "name": "vllm-0",
            "uid": "uid-1",
            "labels": labels or {},
            "annotations": {f"{GROUP}/{key}": value for key, value in (annotations or {}).items()},
        },
        "spec": {"nodeName": "node-a", "containers": [container]},
        "status": {
            "phase": "Running",
            "podIP": "10.0.0.7",
            "conditions": [{"type": "Ready", "status": "False"}, {"type": "ContainersReady", "status": "True"}],
            "containerStatuses": [
                {"name": "sidecar", "containerID": "containerd://other"},
                {
                    "name": name,
                    "containerID": "containerd://abc",
                    "restartCount": 2,
                    "state": {"running": {"startedAt": "2026-01-02T03:04:05Z"}},
                },
            ],
        },
    }
