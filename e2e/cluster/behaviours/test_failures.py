"""What the kubelet and the API server do to pods for reasons of their own, while users ask."""

from __future__ import annotations

import json

import pytest

from e2e.cluster.behaviours.installation import SYSTEM, Installation
from e2e.cluster.behaviours.kube import is_ready
from e2e.cluster.behaviours.users import Table, container, users
from e2e.cluster.node import Node
from e2e.cluster.sample import ADAPTER, TEAM
from e2e.controlplane.errors import KubectlError
from e2e.world.rest import Json

# Shared memory counts for the container and for none of its processes: the kernel then takes the largest, the engine.
FILL_MEMORY = """
import os
with open("/dev/shm/filling", "wb") as file:
    os.unlink(file.name)
    while True:
        file.write(b"x" * (1 << 20))
"""
FILL_DISK = """
with open("/adapters/filling", "wb") as file:
    for _ in range(100):
        file.write(b"x" * (1 << 20))
"""


def evict(installed: Installation, pod: str) -> None:
    """As `kubectl drain`, descheduler and autoscalers do.

    Raises:
        KubectlError: the API server refuses.
    """
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": TEAM}}
    path = f"/api/v1/namespaces/{TEAM}/pods/{pod}/eviction"
    installed.kube.run("create", "--raw", path, "--filename", "-", input=json.dumps(body))


def node_of(installed: Installation, pod: Json) -> Node:
    if installed.kube.cluster is None:
        pytest.skip("the nodes of this cluster cannot be reached to stop a container")
    return next(node for node in installed.kube.cluster.nodes() if node.layout.name == pod["spec"]["nodeName"])


def wait_replaced(installed: Installation, pod: Json) -> None:
    """Another pod of this name is Ready."""
    name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
    installed.kube.wait(
        TEAM, name, lambda now: bool(now) and now["metadata"]["uid"] != uid and is_ready(now), timeout=300
    )
    installed.wait_adapter(ADAPTER)


def wait_restarted(installed: Installation, pod: Json) -> Json:
    """Its engine was started once more, in the same pod, which is Ready. Returns how the engine ended."""
    before = container(pod, "vllm")["restartCount"]
    now = installed.kube.wait(
        TEAM, pod["metadata"]["name"],
        lambda now: container(now, "vllm")["restartCount"] > before and is_ready(now), timeout=300,
    )  # fmt: skip
    assert now["metadata"]["uid"] == pod["metadata"]["uid"]
    installed.wait_adapter(ADAPTER)
    return dict(container(now, "vllm")["lastState"]["terminated"])


def test_evicted_pod_is_replaced_and_its_budget_keeps_the_other(installed: Installation, table: Table) -> None:
    first, second = installed.wait_pods(2)
    with users(installed, table, "eviction by the API"):
        evict(installed, first["metadata"]["name"])
        with pytest.raises(KubectlError, match="disruption budget"):
            evict(installed, second["metadata"]["name"])
        wait_replaced(installed, first)
    kept = installed.pods()[1]
    assert kept["metadata"]["uid"] == second["metadata"]["uid"]


def test_pod_that_fills_its_disk_is_evicted_by_its_kubelet_and_replaced(installed: Installation, table: Table) -> None:
    """Which says so in a pod that Failed, and stays until its controller has removed it."""
    pod = installed.wait_pods(2)[1]
    with users(installed, table, "eviction by the kubelet (disk)"):
        name = pod["metadata"]["name"]
        installed.kube.run("exec", name, "-c", "agent", "--", "python3", "-c", FILL_DISK, namespace=TEAM, check=False)
        wait_replaced(installed, pod)


def test_engine_that_is_killed_for_its_memory_comes_back_with_its_adapter(
    installed: Installation, table: Table
) -> None:
    pod = installed.wait_pods(2)[1]
    with users(installed, table, "engine out of memory (OOMKilled)"):
        name = pod["metadata"]["name"]
        installed.kube.run("exec", name, "-c", "vllm", "--", "python3", "-c", FILL_MEMORY, namespace=TEAM, check=False)
        ended = wait_restarted(installed, pod)
    assert (ended["reason"], ended["exitCode"]) == ("OOMKilled", 137)


def test_engine_that_hangs_is_restarted_by_its_liveness_probe(installed: Installation, table: Table) -> None:
    """Nobody can be answered by a pod that hangs until its readiness probe has failed too: those who are led to it by
    the Service wait in vain."""
    pod = installed.wait_pods(2)[1]
    node = node_of(installed, pod)
    with users(installed, table, "engine hangs (liveness)"):
        node.stop_container(container(pod, "vllm")["containerID"].rpartition("/")[2])
        ended = wait_restarted(installed, pod)
    assert ended["exitCode"] == 137
    events = installed.kube.run("get", "events", f"--field-selector=involvedObject.name={pod['metadata']['name']}",
                                "-o", "jsonpath={.items[*].message}", namespace=TEAM)  # fmt: skip
    assert "failed liveness probe" in events


@pytest.mark.timeout(900)
def test_pods_that_take_long_to_start_are_waited_for(installed: Installation, table: Table) -> None:
    """The agent waits for its engine, however long that takes, and the rolling update for both."""
    try:
        with users(installed, table, "rolling update, engines start in 45 s"):
            installed.upgrade_pods(args=["--sim-startup-seconds=45"])
            installed.wait_rolled()
            installed.wait_adapter(ADAPTER)
    finally:
        installed.upgrade_pods(args=[])
        installed.wait_rolled()


def test_namespace_of_another_team_can_be_deleted_with_all_in_it(installed: Installation, table: Table) -> None:
    other = "team-b"
    installed.kube.run("create", "namespace", other)
    try:
        installed.declare("theirs", replicas=1, namespace=other)
        installed.wait_adapter("theirs", condition="Ready=False", namespace=other)
        with users(installed, table, "another namespace deleted"):
            installed.kube.run("delete", "namespace", other, "--timeout=120s")
    finally:
        installed.kube.run("delete", "namespace", other, "--ignore-not-found", "--wait=false")
    installed.kube.run("rollout", "status", "deployment/lora-operator", "--timeout=60s", namespace=SYSTEM)


@pytest.mark.timeout(900)
def test_namespace_with_pods_that_serve_can_be_deleted(installed: Installation) -> None:
    """Adapters go whose pods end at the same time: nothing is left that would hold the namespace."""
    installed.wait_adapter(ADAPTER)
    installed.kube.run("delete", "namespace", TEAM, "--timeout=240s")
    assert not installed.kube.rest.get(f"/api/v1/namespaces/{TEAM}")
    installed.install()
    installed.declare(ADAPTER, replicas=2)
    installed.wait_adapter(ADAPTER)
