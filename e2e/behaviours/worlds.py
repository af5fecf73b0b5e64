"""Makes worlds for tests: each a namespace of its own with running pods and an operator that looks after it."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from e2e.controlplane import ControlPlane
from e2e.world import Rest, World
from e2e.world.world import SERVICE_ACCOUNT, SYSTEM_NAMESPACE


class Worlds:
    """`worlds(2, max_cpu_loras=4, operator=("--no-versioned-names",))` gives a started World; all end with `close`.

    `pods` 0 starts none, `operator` None starts none. `in_process` engines are cheap, and cannot be frozen; killing a
    container works with both. `pod_options` are those of the pod runner; everything else goes to `World.start_pods`.
    """

    def __init__(self, plane: ControlPlane, directory: Path, kubeconfig: Path) -> None:
        self._plane = plane
        self._directory = directory
        self._kubeconfig = kubeconfig
        self._open = ExitStack()

    def __call__(
        self,
        pods: int = 3,
        *arguments: str,
        operator: Sequence[str] | None = (),
        in_process: bool = True,
        pod_options: Mapping[str, Any] | None = None,
        **engines: Any,
    ) -> World:
        namespace = f"test-{secrets.token_hex(4)}"
        options = {"in_process": in_process} | dict(pod_options or {})
        world = World(
            self._plane, self._directory / namespace, namespace, operator_kubeconfig=self._kubeconfig, **options
        )
        self._open.callback(_remove, self._plane, namespace)
        _create(world.rest, namespace)
        self._open.enter_context(world)
        # both take about a second to start: side by side
        if operator is not None:
            world.start_operator(*operator, wait=False)
        if pods:
            world.start_pods(pods, *arguments, **engines)
        if operator is not None and world.operator is not None:
            world.operator.wait_ready()
        return world

    def close(self) -> None:
        """End everything, and have the namespaces deleted."""
        self._open.close()


def operator_kubeconfig(plane: ControlPlane) -> Path:
    """The credentials of the operator's service account, made once for all worlds of one control plane."""
    return plane.service_account_kubeconfig(SYSTEM_NAMESPACE, SERVICE_ACCOUNT)


def _create(rest: Rest, namespace: str) -> None:
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
    rest.create("/api/v1/namespaces", body)
    # the API server refuses pods in a namespace that has no service account yet
    rest.wait(f"/api/v1/namespaces/{namespace}/serviceaccounts", "default", bool)


def _remove(plane: ControlPlane, namespace: str) -> None:
    """Delete the namespace without waiting; nobody is left to end its pods or to take finalizers off."""
    rest = Rest(plane.kubeconfig)
    try:
        adapters = f"/apis/production-stack.vllm-project/v1alpha1/namespaces/{namespace}/loraadapters"
        rest.delete(f"/api/v1/namespaces/{namespace}")
        for item in rest.get(adapters).get("items", []):
            rest.patch(f"{adapters}/{item['metadata']['name']}", {"metadata": {"finalizers": None}})
        rest.delete(f"/apis/apps/v1/namespaces/{namespace}/statefulsets")
        rest.delete(f"/api/v1/namespaces/{namespace}/pods", gracePeriodSeconds="0")
    finally:
        rest.close()
