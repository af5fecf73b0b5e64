"""Pods that declare the readiness gate take traffic once they hold what is planned for them; none waits for ever."""

from __future__ import annotations

import json

from e2e.behaviours.seen import listed
from e2e.behaviours.worlds import Worlds
from e2e.world import World
from e2e.world.rest import Json
from e2e.world.world import assigned

GATE = "production-stack.vllm-project/adapters-loaded"


def _gate(pod: Json) -> tuple[str, str]:
    """Status and reason of the gate's condition."""
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return next(((str(c["status"]), str(c["reason"])) for c in conditions if c["type"] == GATE), ("", ""))


def _pod(world: World, name: str, gate: tuple[str, str]) -> Json:
    """The pod, once its gate is so."""
    return world.rest.wait(
        f"/api/v1/namespaces/{world.namespace}/pods", name, lambda pod: bool(pod) and _gate(pod) == gate
    )


def _is_ready(pod: Json) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"]["conditions"])


def test_a_pod_is_ready_only_once_it_holds_its_adapters(worlds: Worlds) -> None:
    world = worlds(0)
    names = [f"a{index}" for index in range(3)]
    for index, name in enumerate(names):
        world.adapter(name, inside="many", seed=index)
    world.apply("many", "many", deployment={"replicaPolicy": "AllPods"})
    world.wait("many", lambda status: bool(status.get("adapters")))
    pods = f"/api/v1/namespaces/{world.namespace}/pods"

    slow = ("--sim-load-seconds", "0.3", "--sim-startup-seconds", "2")
    world.start_pods(1, *slow, readiness_gates=[GATE], wait=False)
    # the API server's own order of events: the containers are ready before the gate opens, and the pod after that
    pod = world.rest.wait(
        pods, "vllm-0", lambda pod: bool(pod) and "ContainersReady" in json.dumps(pod) and _serves(pod)
    )
    assert not _is_ready(pod)
    _pod(world, "vllm-0", ("True", "AdaptersLoaded"))
    assert listed(world) == {"vllm-0": names}
    world.pods.wait_ready(world.namespace, 1)
    world.wait_ready("many")

    world.pods.kill_container(world.namespace, "vllm-0")
    _pod(world, "vllm-0", ("False", "EngineNotReady"))
    _pod(world, "vllm-0", ("True", "AdaptersLoaded"))
    assert listed(world) == {"vllm-0": names}
    world.wait("many", lambda status: assigned(status) == {"vllm-0": names})


def _serves(pod: Json) -> bool:
    return any(c["type"] == "ContainersReady" and c["status"] == "True" for c in pod["status"]["conditions"])


def test_the_gate_opens_with_a_reason_when_an_adapter_cannot_be_loaded(worlds: Worlds) -> None:
    world = worlds(0)
    world.adapter("sql")
    world.apply("sql", "sql", deployment={"replicaPolicy": "AllPods"})
    # an engine that refuses rank 8, on a pod that says it takes 64
    world.start_pods(
        1, name="refuses", max_lora_rank=1, annotations={"max-lora-rank": "64"}, readiness_gates=[GATE], wait=False
    )
    pod = _pod(world, "refuses-0", ("True", "LoadFailed"))
    (condition,) = [c for c in pod["status"]["conditions"] if c["type"] == GATE]
    assert "opened without 1 adapters that cannot be loaded" in condition["message"]

    world.start_pods(1, name="off", annotations={"lora-memory": "plenty"}, readiness_gates=[GATE], wait=False)
    _pod(world, "off-0", ("True", "InvalidPodLimits"))
    world.pods.wait_ready(world.namespace, 2)
