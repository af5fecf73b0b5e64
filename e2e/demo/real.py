"""The demo on real nodes: both charts installed with Helm, and what becomes of users while an engine is killed.

Everything that is shown is what a user's own kubectl and Helm would show. A cluster that runs already (`make cluster`)
is taken and left running, without what the demo had in it.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from e2e.cluster.behaviours.asking import asking
from e2e.cluster.behaviours.installation import OPERATOR_RELEASE, PODS_RELEASE, STATEFULSET, SYSTEM, WAYS, Installation
from e2e.cluster.behaviours.kube import Kube, is_ready
from e2e.cluster.behaviours.users import container
from e2e.cluster.cluster import Cluster
from e2e.cluster.sample import ADAPTER, TEAM
from e2e.controlplane.errors import ControlPlaneError
from e2e.demo.screen import Screen
from e2e.world import WaitError

DIRECTORY = Path(".run/cluster")


def perform_on_nodes(screen: Screen, *, keep: bool) -> int:
    """The exit code: 0 if all was shown, 1 if something was not as it should be. Raises ClusterError: no cluster."""
    began = time.monotonic()
    screen.title("lora-operator on real nodes: kubelet, containerd, kube-proxy, CoreDNS, without Docker")
    with _cluster(screen, keep) as cluster, tempfile.TemporaryDirectory() as scratch:
        try:
            _show(Installation(Kube.of(cluster), Path(scratch)), screen, keep)
        except (ControlPlaneError, WaitError, subprocess.SubprocessError, OSError) as error:
            screen.bad(str(error))
            return 1
        screen.good(f"all as promised, in {time.monotonic() - began:.0f} s")
        if keep:
            screen.title("Everything is left running")
            screen.command('eval "$(python -m e2e.cluster env)"')
            screen.command(f"kubectl -n {TEAM} get loraadapters,pods -o wide")
            screen.say("To end everything: make cluster-down")
    return 0


@contextmanager
def _cluster(screen: Screen, keep: bool) -> Iterator[Cluster]:
    """The one that runs in the usual folder, or a new one for the time of the demo."""
    cluster, theirs = Cluster.there(DIRECTORY), True
    if not cluster.parts().get("kube-apiserver"):
        screen.command("make cluster")
        cluster, theirs = Cluster.start(DIRECTORY, detached=True), False
    try:
        yield cluster
    finally:
        if not theirs and not keep:
            cluster.stop()
            screen.say("The cluster was ended; logs are in .run/cluster.")


def _show(installed: Installation, screen: Screen, keep: bool) -> None:
    kube = installed.kube

    def run(*arguments: str, namespace: str | None = None) -> None:
        screen.command(" ".join(("kubectl", *(("-n", namespace) if namespace else ()), *arguments)))
        screen.output(kube.run(*arguments, namespace=namespace))

    screen.title("1. Two nodes, with the images of the operator and of a simulated vLLM")
    kube.load_own()
    first = min(node["metadata"]["name"] for node in kube.rest.get("/api/v1/nodes")["items"])
    kube.run("label", "--overwrite", "node", first, "lora-operator.dev/asking=true")
    run("get", "nodes", "-o", "wide")

    screen.title("2. Both charts, as docs/install.md says")
    installed.uninstall()
    screen.command(f"helm upgrade --install {OPERATOR_RELEASE} helm/lora-operator -n {SYSTEM} …")
    screen.command(f"helm upgrade --install {PODS_RELEASE} helm/vllm-lora -n {TEAM} …")
    installed.install()
    run("get", "pods", "-o", "wide", namespace=SYSTEM)
    run("get", "pods", "-o", "wide", namespace=TEAM)

    screen.title("3. An adapter on both pods, fetched by the agents in them")
    installed.declare(ADAPTER, replicas=2)
    screen.command(f"kubectl -n {TEAM} apply -f {ADAPTER}.yaml")
    installed.wait_adapter(ADAPTER)
    run("get", "loraadapters", "-o", "wide", namespace=TEAM)

    screen.title("4. An engine is killed with SIGKILL while users ask, through Service, router and gateway")
    pod = installed.wait_pods(2)[1]
    before = container(pod, "vllm")
    assert kube.cluster is not None
    node = next(one for one in kube.cluster.nodes() if one.layout.name == pod["spec"]["nodeName"])
    with asking(kube, TEAM, ADAPTER, WAYS) as outcomes:
        node.kill_container(before["containerID"].rpartition("/")[2])
        kube.wait(
            TEAM, pod["metadata"]["name"],
            lambda now: is_ready(now) and container(now, "vllm")["restartCount"] > before["restartCount"],
        )  # fmt: skip
        installed.wait_adapter(ADAPTER)
    for way, outcome in outcomes.items():
        screen.output(f"{way:<8} {outcome}")
    run("get", "pods", namespace=TEAM)

    screen.title("5. A rolling update: each new pod takes requests once it holds its adapters")
    with asking(kube, TEAM, ADAPTER, WAYS) as outcomes:
        run("rollout", "restart", f"statefulset/{STATEFULSET}", namespace=TEAM)
        installed.wait_rolled()
        installed.wait_adapter(ADAPTER)
    for way, outcome in outcomes.items():
        screen.output(f"{way:<8} {outcome}")
    if not keep:
        screen.title("6. Uninstalled")
        installed.uninstall()
        run("get", "namespaces")
