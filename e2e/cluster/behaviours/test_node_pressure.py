"""A node that lacks something evicts its pods, at once and one after the other, and takes no others meanwhile."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from e2e.cluster.behaviours.installation import Installation
from e2e.cluster.behaviours.kube import is_ready
from e2e.cluster.behaviours.users import Table, users
from e2e.cluster.cluster import Cluster
from e2e.cluster.node import Node
from e2e.cluster.parts import Parts
from e2e.cluster.sample import ADAPTER, TEAM

PRESSURE = "PIDPressure"  # of memory or disks there would be less for pods than before, and images would be removed


@contextmanager
def pressure(cluster: Cluster, node: Node) -> Iterator[None]:
    """The node's kubelet wants more process numbers free than there are."""
    file = node.layout.directory / "kubelet.json"
    before = file.read_text()
    configuration = json.loads(before)
    configuration["evictionHard"]["pid.available"] = Path("/proc/sys/kernel/pid_max").read_text().strip()
    parts = Parts(cluster.layout, detached=True)

    def restart(text: str) -> None:
        file.write_text(text)
        node.kill_daemon("kubelet")
        node.start_daemon(parts, "kubelet")

    restart(json.dumps(configuration))
    try:
        yield
    finally:
        restart(before)
        parts.forget()


@pytest.mark.timeout(900)
def test_pods_of_a_node_under_pressure_are_evicted_and_go_to_another(installed: Installation, table: Table) -> None:
    kube, cluster = installed.kube, installed.kube.cluster
    if cluster is None or len(cluster.nodes()) < 2:
        pytest.skip("a node is needed whose kubelet can be told otherwise, and a second one")
    installed.spread()
    node = cluster.nodes()[1]
    name = node.layout.name
    (pod,) = [one for one in installed.wait_pods(2) if one["spec"]["nodeName"] == name]
    try:
        with users(installed, table, "eviction, node under pressure"):
            with pressure(cluster, node):
                kube.run("wait", f"--for=condition={PRESSURE}", f"node/{name}", "--timeout=120s")
                new = kube.wait(
                    TEAM, pod["metadata"]["name"],
                    lambda now: bool(now) and now["metadata"]["uid"] != pod["metadata"]["uid"] and is_ready(now), 400,
                )  # fmt: skip
                assert new["spec"]["nodeName"] != name
            kube.run("wait", f"--for=condition={PRESSURE}=False", f"node/{name}", "--timeout=120s")
            installed.wait_adapter(ADAPTER)
    finally:
        # those of Deployments stay as what has become of them
        kube.run("delete", "pods", "--all-namespaces", "--field-selector=status.phase=Failed", "--ignore-not-found")
