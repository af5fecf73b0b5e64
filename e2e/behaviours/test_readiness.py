"""What opens a pod to traffic is the pod's own: with an operator there is no 404, and without one nothing closes."""

from __future__ import annotations

import signal

import pytest

from e2e.behaviours.from_stores import apply, offer
from e2e.behaviours.seen import listed, metric
from e2e.behaviours.traffic import engine_is_ready, is_ready, nobody_stops_being_ready, pod_once
from e2e.behaviours.worlds import Worlds
from e2e.demo.uploads import WebUpload
from e2e.world import World
from e2e.world.world import assigned, eventually

GATE = "production-stack.vllm-project/adapters-loaded"
ALL = {"replicaPolicy": "AllPods"}
SILENCE = ("--silence-seconds", "6")
QUICK = ("--probe-seconds", "0.3", "--probe-timeout", "0.5", "--hold-seconds", "1", "--gate-seconds", "2")
PORT = "production-stack.vllm-project/port"
NOWHERE = "9"  # where the operator finds nobody, while the kubelet finds the engine well


def engines_are(world: World, state: str) -> None:
    """Both, as the operator sees them."""
    eventually(lambda: metric(world, "lora_operator_pods", state=state) == 2, what=["engines are", state])


@pytest.mark.parametrize("native_sidecar", [False, True])
def test_a_pod_with_an_agent_is_ready_only_once_it_holds_its_adapters(
    worlds: Worlds, store: WebUpload, native_sidecar: bool
) -> None:
    world = worlds(0)
    names = [f"a{index}" for index in range(3)]
    for index, name in enumerate(names):
        apply(world, name, offer(world, store, name, seed=index), **ALL)
        world.wait(name, lambda status: bool(status.get("adapters")))
    slow = ("--sim-load-seconds", "0.3", "--sim-startup-seconds", "2")
    world.start_pods(1, *slow, agent=("--ready-seconds", "600"), native_sidecar=native_sidecar, wait=False)
    assert not is_ready(pod_once(world, "vllm-0", engine_is_ready))
    pod_once(world, "vllm-0", is_ready)
    assert listed(world) == {"vllm-0": names}

    world.pods.kill_container(world.namespace, "vllm-0")
    pod_once(world, "vllm-0", lambda pod: not is_ready(pod))
    pod_once(world, "vllm-0", is_ready)
    assert listed(world) == {"vllm-0": names}
    for name in names:
        world.wait(name, lambda status, name=name: assigned(status) == {"vllm-0": [name]})  # type: ignore[misc]


def test_an_adapter_that_cannot_be_loaded_keeps_no_pod_from_its_base_model(worlds: Worlds, store: WebUpload) -> None:
    world = worlds(0)
    apply(world, "sql", offer(world, store, "sql"), **ALL)
    world.wait("sql", lambda status: bool(status.get("adapters")))
    # an engine that refuses rank 8, on a pod that says it takes 64
    limits = {"max-lora-rank": "64"}
    never = ("--ready-seconds", "600", "--silence-seconds", "600")
    world.start_pods(1, name="refuses", max_lora_rank=1, annotations=limits, agent=never, wait=False)
    pod_once(world, "refuses-0", is_ready)


def test_when_the_operator_is_deleted_pods_stay_ready_and_new_ones_become_so(worlds: Worlds, store: WebUpload) -> None:
    world = worlds(0)
    apply(world, "sql", offer(world, store, "sql"), **ALL)
    world.start_pods(1, agent=SILENCE)
    world.start_pods(1, name="gated", readiness_gates=[GATE])
    world.wait_ready("sql")
    with nobody_stops_being_ready(world):
        world.stop_operator()
        world.kubectl("scale", "statefulset/vllm", "--replicas=2")
        pod_once(world, "vllm-1", is_ready)
    world.token_file.write_text("")  # nor does its own trouble close a pod whose agent starts anew
    world.pods.kill_container(world.namespace, "vllm-0", "agent")
    world.pods.wait_restarted(world.namespace, "vllm-0", container="agent")
    log = world.pods.folder_of(world.namespace, "vllm-0") / "agent.log"
    assert "nothing new can be loaded here" in log.read_text()
    assert log.read_text().count("open to traffic") == 1, "it was open from its start"
    assert listed(world) == {"vllm-0": ["sql"], "gated-0": ["sql"]}


def test_an_operator_that_cannot_reach_engines_closes_no_pod_and_keeps_none_closed(
    worlds: Worlds, store: WebUpload
) -> None:
    world = worlds(0, operator=QUICK)
    apply(world, "sql", offer(world, store, "sql"), **ALL)
    world.start_pods(1, agent=SILENCE)
    world.start_pods(1, name="gated", readiness_gates=[GATE])
    world.wait("sql", lambda status: "vllm-0" in assigned(status))
    with nobody_stops_being_ready(world):
        # refused, then reset
        world.kubectl("annotate", "--overwrite", "pod/vllm-0", "pod/gated-0", f"{PORT}={NOWHERE}")
        engines_are(world, "Suspect")
        world.kubectl("annotate", "--overwrite", "pod/vllm-0", "pod/gated-0", f"{PORT}=8000")
        engines_are(world, "Up")
        for pod in ("vllm-0", "gated-0"):
            world.engine(pod).fault(kind="drop", endpoint="models")
        far = {"port": NOWHERE}
        world.start_pods(1, name="far", annotations=far, agent=("--ready-seconds", "2"), wait=False)
        world.start_pods(1, name="far-gated", annotations=far, readiness_gates=[GATE], wait=False)
        pod_once(world, "far-0", is_ready)
        pod_once(world, "far-gated-0", is_ready)
    # it reaches none, and their kubelets find them ready: routers go on sending requests there
    assert set(assigned(world.get("sql")["status"])) == {"vllm-0", "gated-0"}


def test_an_operator_without_cpu_closes_no_pod_and_keeps_none_with_an_agent_closed(
    worlds: Worlds, store: WebUpload
) -> None:
    world = worlds(0)
    apply(world, "sql", offer(world, store, "sql"), **ALL)
    world.start_pods(1, agent=SILENCE)
    world.start_pods(1, name="gated", readiness_gates=[GATE])
    world.wait("sql", lambda status: "vllm-0" in assigned(status))
    assert world.operator is not None
    with nobody_stops_being_ready(world):
        world.operator.process.send_signal(signal.SIGSTOP)
        try:
            world.kubectl("scale", "statefulset/vllm", "--replicas=2")
            pod_once(world, "vllm-1", is_ready)
        finally:
            world.operator.process.send_signal(signal.SIGCONT)
        world.wait("sql", lambda status: "vllm-1" in assigned(status))
        eventually(lambda: "sql" in listed(world).get("vllm-1", []), what=("it goes on where it was",))


def test_no_operator_has_ever_been_there_and_a_pod_with_an_agent_is_ready(worlds: Worlds) -> None:
    world: World = worlds(0, operator=None)
    world.start_pods(1, agent=SILENCE, wait=False)
    assert not is_ready(pod_once(world, "vllm-0", engine_is_ready))
    pod_once(world, "vllm-0", is_ready)
