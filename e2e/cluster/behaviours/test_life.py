"""What becomes of users' requests while pods, nodes and operators come and go. The table is printed at the end (-s)."""

from __future__ import annotations

import pytest

from e2e.cluster.behaviours.asking import asking
from e2e.cluster.behaviours.installation import OPERATOR_RELEASE, STATEFULSET, SYSTEM, WAYS, Installation
from e2e.cluster.behaviours.kube import is_ready
from e2e.cluster.behaviours.users import Table, container, users
from e2e.cluster.parts import Parts
from e2e.cluster.sample import ADAPTER, TEAM


def test_adapter_is_ready_on_both_pods_and_answers_through_service_and_router(
    installed: Installation, table: Table
) -> None:
    status = installed.status(ADAPTER)
    assert {one["pod"] for one in status["podAssignments"]} == {f"{STATEFULSET}-0", f"{STATEFULSET}-1"}
    with users(installed, table, "nothing happens"):
        installed.kube.run("get", "pods", namespace=TEAM)
    for outcome in table["nothing happens"].values():
        assert outcome.failed.total() == 0


def test_killed_engine_comes_back_with_its_adapter(installed: Installation, table: Table) -> None:
    if installed.kube.cluster is None:
        pytest.skip("the nodes of this cluster cannot be reached to kill a container")
    pod = installed.wait_pods(2)[1]
    name, before = pod["metadata"]["name"], container(pod, "vllm")
    node = next(one for one in installed.kube.cluster.nodes() if one.layout.name == pod["spec"]["nodeName"])
    with users(installed, table, "engine killed (SIGKILL)"):
        node.kill_container(before["containerID"].rpartition("/")[2])
        installed.kube.wait(
            TEAM, name,
            lambda now: is_ready(now) and container(now, "vllm")["restartCount"] > before["restartCount"],
        )  # fmt: skip
        installed.wait_adapter(ADAPTER)


def test_rolling_update_of_the_statefulset(installed: Installation, table: Table) -> None:
    before = {pod["metadata"]["uid"] for pod in installed.wait_pods(2)}
    with users(installed, table, "rolling update of the StatefulSet"):
        installed.kube.run("rollout", "restart", f"statefulset/{STATEFULSET}", namespace=TEAM)
        installed.kube.run("rollout", "status", f"statefulset/{STATEFULSET}", "--timeout=280s", namespace=TEAM)
        installed.wait_adapter(ADAPTER)
    assert before.isdisjoint(pod["metadata"]["uid"] for pod in installed.pods())


def test_operator_rolled_while_users_ask(installed: Installation, table: Table) -> None:
    with users(installed, table, "operator rolled"):
        installed.kube.run("rollout", "restart", f"deployment/{OPERATOR_RELEASE}", namespace=SYSTEM)
        installed.kube.run("rollout", "status", f"deployment/{OPERATOR_RELEASE}", "--timeout=280s", namespace=SYSTEM)


def test_what_is_ready_stays_so_without_an_operator_and_a_new_pod_becomes_ready_after_its_deadline(
    installed: Installation, table: Table
) -> None:
    """The agent alone decides then (docs/install.md, "When a pod takes traffic"). The new pod has no adapter: a router
    does not name it, and a plain Service leads to it, so that requests through that are not looked at here."""
    kept, lost = installed.wait_pods(2)
    installed.scale_operator(0)
    installed.wait_no_operator()
    try:
        with asking(installed.kube, TEAM, ADAPTER, WAYS) as outcomes:
            installed.kube.run("delete", "pod", lost["metadata"]["name"], namespace=TEAM)
            new = installed.kube.wait(
                TEAM, lost["metadata"]["name"],
                lambda pod: bool(pod) and pod["metadata"]["uid"] != lost["metadata"]["uid"] and is_ready(pod),
            )  # fmt: skip
            assert container(new, "agent")["ready"]
            now = installed.kube.wait(TEAM, kept["metadata"]["name"], bool)
            assert now["metadata"]["uid"] == kept["metadata"]["uid"] and is_ready(now)
        table["no operator, a pod deleted"] = outcomes
        assert outcomes["router"].answered.total() > 0 and outcomes["gateway"].answered.total() > 0
    finally:
        installed.scale_operator(2)
    installed.wait_adapter(ADAPTER)


def test_drained_node_gives_its_pods_to_others(installed: Installation, table: Table) -> None:
    """The PodDisruptionBudget lets them go one by one; the adapter is loaded before a pod takes requests."""
    if len(installed.kube.rest.get("/api/v1/nodes")["items"]) < 2:
        pytest.skip("a drain needs a second node")
    placed = {pod["metadata"]["name"]: pod["spec"]["nodeName"] for pod in installed.wait_pods(2)}
    asked_on = installed.kube.run("get", "node", "-l", "lora-operator.dev/asking=true", "-o", "name").strip()
    drained = sorted(set(placed.values()) - {asked_on.removeprefix("node/")})
    assert drained, f"all pods are on {asked_on}, from where is asked: {placed}"
    node = drained[0]
    try:
        with users(installed, table, "kubectl drain"):
            installed.kube.run(
                "drain", node, "--ignore-daemonsets", "--delete-emptydir-data", "--force", "--timeout=240s"
            )
            pods = installed.wait_pods(2)
            installed.wait_adapter(ADAPTER)
        assert all(pod["spec"]["nodeName"] != node for pod in pods)
    finally:
        installed.kube.run("uncordon", node)


def test_lost_node_is_passed_by_and_comes_back(installed: Installation, table: Table) -> None:
    """kubelet and containerd of a node end, its containers go on: as when a machine is cut off from the control plane.

    The node is NotReady after its grace period, and its pods with it; the router and the Service lead to others then.
    """
    cluster = installed.kube.cluster
    if cluster is None or len(cluster.nodes()) < 2:
        pytest.skip("a second node that can be cut off is needed")
    installed.spread()
    lost = cluster.nodes()[1]
    placed = {pod["spec"]["nodeName"] for pod in installed.wait_pods(2)}
    assert lost.layout.name in placed, f"no pod is on {lost.layout.name}: {placed}"
    parts = Parts(cluster.layout, detached=True)
    with users(installed, table, "node lost and back"):
        for daemon in ("kubelet", "containerd"):
            lost.kill_daemon(daemon)
        try:
            installed.kube.run("wait", "--for=condition=Ready=Unknown", f"node/{lost.layout.name}", "--timeout=120s")
        finally:
            for daemon in ("containerd", "kubelet"):
                lost.start_daemon(parts, daemon)
        installed.kube.run("wait", "--for=condition=Ready", f"node/{lost.layout.name}", "--timeout=120s")
        installed.wait_pods(2)
        installed.wait_adapter(ADAPTER)
    parts.forget()
