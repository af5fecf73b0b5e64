"""What the API server can take at all: plain writes of LoraAdapters, by nobody who thinks about them.

Each adapter needs one status and one finalizer, so that nobody can be faster than these. Measured in the same run as
what it is compared with, as the machine may be busy with other things.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from bench.scale.cost import cpu_seconds
from bench.scale.engines import at_once
from e2e.controlplane import ControlPlane
from e2e.pods.api import Json
from e2e.world.rest import GROUP
from lora_operator.kube.client import Kube
from lora_operator.kube.write_queue import AT_A_TIME

NAMESPACE = "floor"
MOST = 300  # LoraAdapters; it takes a few seconds


@dataclass(frozen=True, slots=True)
class Floor:
    """Of each kind of write: how many a second, and what one costs API server and etcd in seconds of CPU."""

    status_rate: float
    status_cpu: float
    finalizer_rate: float
    finalizer_cpu: float


def server_cpu_seconds(plane: ControlPlane) -> float:
    """Of API server and etcd so far."""
    return sum(cpu_seconds(plane.processes[name].pid) for name in ("kube-apiserver", "etcd"))


async def floor(plane: ControlPlane, adapters: int) -> Floor:
    """Create LoraAdapters in a namespace of its own, write to them as many at a time as the operator does, and delete
    them. No operator may run."""
    count = min(adapters, MOST)
    plane.create_namespace(NAMESPACE)
    kube = await Kube.connect(str(plane.kubeconfig))
    path = f"{GROUP}/namespaces/{NAMESPACE}/loraadapters"
    made: dict[int, Json] = {}

    async def create(number: int) -> None:
        made[number] = await kube.call("POST", path, body=_body(number))

    async def finalize(number: int) -> None:
        metadata = made[number]["metadata"]
        made[number] = await kube.add_finalizer(NAMESPACE, metadata["name"], metadata["uid"], ())

    async def tell(number: int) -> None:
        metadata = made[number]["metadata"]
        await kube.apply_status(NAMESPACE, metadata["name"], metadata["uid"], _status(number))

    async def release(number: int) -> None:
        metadata = made[number]["metadata"]
        await kube.remove_finalizer(NAMESPACE, metadata["name"], metadata["uid"], metadata["finalizers"])
        await kube.call("DELETE", f"{path}/{metadata['name']}")

    async def measured(write: Callable[[int], Awaitable[None]]) -> tuple[float, float]:
        cpu, started = server_cpu_seconds(plane), time.monotonic()
        await at_once((write(number) for number in range(count)), AT_A_TIME)
        return count / (time.monotonic() - started), (server_cpu_seconds(plane) - cpu) / count

    try:
        await at_once(create(number) for number in range(count))
        finalizers, statuses = await measured(finalize), await measured(tell)
        await at_once(release(number) for number in range(count))
    finally:
        await kube.close()
        plane.delete_namespace(NAMESPACE)
    return Floor(*statuses, *finalizers)


def _body(number: int) -> Json:
    return {
        "apiVersion": "production-stack.vllm-project/v1alpha1",
        "kind": "LoraAdapter",
        "metadata": {"name": f"a{number}", "namespace": NAMESPACE},
        "spec": {"baseModel": "tiny", "adapterSource": {"type": "local", "repository": f"/source/a{number}"}},
    }


def _status(number: int) -> Json:
    """As large as that of one adapter that is Ready on one pod."""
    condition = {"status": "True", "observedGeneration": 1, "lastTransitionTime": "2026-01-01T00:00:00Z"}
    kinds = ("SourceReady", "Scheduled", "Loaded", "Ready")
    return {
        "phase": "Ready",
        "observedGeneration": 1,
        "replicas": 1,
        "loadedAdapters": [f"a{number}"],
        "conditions": [{**condition, "type": kind, "reason": kind, "message": "1 of 1 is loaded"} for kind in kinds],
        "adapters": [{"name": f"a{number}", "fingerprint": f"{number:032x}", "bytes": 12_345, "rank": 8}],
        "podAssignments": [{"pod": f"vllm-{number % 30}", "adapters": [f"a{number}"]}],
    }
