"""Pods as users meet them: through kubectl, the real controllers, and the runner in place of a kubelet."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import psutil
import pytest

from e2e.controlplane import ControlPlane
from e2e.pods import ContainerError, PodRunnerError, PodRunnerThread
from e2e.pods.manifests import agent_container, vllm_pod_template, vllm_statefulset
from e2e.world.rest import Rest

pytestmark = pytest.mark.cluster


class Cluster:
    """kubectl in the namespace of one test."""

    def __init__(self, control_plane: ControlPlane, namespace: str) -> None:
        self.control_plane = control_plane
        self.namespace = namespace
        pods = control_plane.kubectl("get", "--raw", f"/api/v1/namespaces/{namespace}/pods?limit=1")
        self._version = str(json.loads(pods)["metadata"]["resourceVersion"])

    def kubectl(self, *arguments: str, input: str | None = None) -> str:
        return self.control_plane.kubectl(*arguments, input=input, namespace=self.namespace)

    def apply(self, *manifests: dict[str, Any]) -> None:
        self.kubectl("apply", "-f", "-", input="\n---\n".join(json.dumps(item) for item in manifests))

    def statefulset(self, replicas: int, **more: Any) -> None:
        self.apply(vllm_statefulset("vllm", replicas, "tiny", namespace=self.namespace, **more))

    def pod(self, name: str) -> dict[str, Any]:
        return dict(json.loads(self.kubectl("get", "pod", name, "-o", "json")))

    def history(self, name: str) -> list[dict[str, Any]]:
        """All versions of the pod so far."""
        rest = Rest(self.control_plane.kubeconfig)
        try:
            return rest.history(f"/api/v1/namespaces/{self.namespace}/pods", name, self._version)
        finally:
            rest.close()

    def wait_for(self, name: str, what: str) -> None:
        # kubectl waits for a condition only of a pod that is there, and a controller makes it a moment after its set
        self.kubectl("wait", f"pod/{name}", "--for=create", "--timeout=30s")
        self.kubectl("wait", f"pod/{name}", f"--for={what}", "--timeout=30s")


@pytest.fixture
def cluster(control_plane: ControlPlane, namespace: str) -> Cluster:
    return Cluster(control_plane, namespace)


def condition(pod: dict[str, Any], kind: str) -> dict[str, Any]:
    return next((item for item in pod["status"]["conditions"] if item["type"] == kind), {})


def is_healthy(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://{address}:8000/health", timeout=10) as response:
            return bool(response.status == 200)
    except urllib.error.URLError:
        return False


def test_statefulset_gets_its_pods_each_on_an_address_and_node_of_its_own(
    cluster: Cluster, pods: PodRunnerThread
) -> None:
    cluster.statefulset(3)
    pods.wait_ready(cluster.namespace, 3)
    found = [cluster.pod(f"vllm-{index}") for index in range(3)]
    assert {pod["spec"]["nodeName"] for pod in found} == {"node-0", "node-1", "node-2"}
    assert len({pod["status"]["podIP"] for pod in found}) == 3
    for pod in found:
        assert is_healthy(pod["status"]["podIP"])
        container = pod["status"]["containerStatuses"][0]
        assert (container["ready"], container["restartCount"]) == (True, 0)
        assert pod["metadata"]["annotations"]["production-stack.vllm-project/base-model"] == "tiny"
    assert "3/3" in cluster.kubectl("get", "statefulset", "vllm")


def test_killed_container_is_restarted_with_the_count_and_the_last_state(
    cluster: Cluster, pods: PodRunnerThread
) -> None:
    cluster.statefulset(1)
    pods.wait_ready(cluster.namespace, 1)
    before = cluster.pod("vllm-0")
    pods.kill_container(cluster.namespace, "vllm-0")
    pods.wait_restarted(cluster.namespace, "vllm-0", 1)
    after = cluster.pod("vllm-0")
    container = after["status"]["containerStatuses"][0]
    assert container["restartCount"] == 1
    assert container["lastState"]["terminated"]["exitCode"] == 137
    assert container["containerID"] != before["status"]["containerStatuses"][0]["containerID"]
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert after["status"]["podIP"] == before["status"]["podIP"]


def test_container_that_ends_again_and_again_waits_as_the_kubelet_has_it(
    cluster: Cluster, pods: PodRunnerThread
) -> None:
    cluster.statefulset(1)
    pods.wait_ready(cluster.namespace, 1)
    for restarts in (1, 2):
        pods.kill_container(cluster.namespace, "vllm-0")
        pods.wait_restarted(cluster.namespace, "vllm-0", restarts)
    waited = {
        (container["restartCount"], container["lastState"]["terminated"]["exitCode"])
        for pod in cluster.history("vllm-0")
        for container in pod["status"].get("containerStatuses", ())
        if container["state"].get("waiting", {}).get("reason") == "CrashLoopBackOff"
    }
    assert waited == {(1, 137)}  # the first restart came at once


def test_deleted_pod_says_how_its_containers_ended_before_it_goes(cluster: Cluster, pods: PodRunnerThread) -> None:
    cluster.statefulset(1)
    pods.wait_ready(cluster.namespace, 1)
    uid = cluster.pod("vllm-0")["metadata"]["uid"]
    cluster.kubectl("delete", "pod", "vllm-0")
    *_, last = [pod for pod in cluster.history("vllm-0") if pod["metadata"]["uid"] == uid]
    assert last["status"]["phase"] == "Succeeded"
    assert last["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 0
    assert (condition(last, "Ready")["status"], condition(last, "Ready")["reason"]) == ("False", "PodCompleted")


def test_deleted_pod_is_replaced_by_one_of_the_same_name_at_another_address(
    cluster: Cluster, pods: PodRunnerThread
) -> None:
    cluster.statefulset(2)
    pods.wait_ready(cluster.namespace, 2)
    before = cluster.pod("vllm-1")
    process = psutil.Process(pods.pid_of(cluster.namespace, "vllm-1"))
    cluster.kubectl("delete", "pod", "vllm-1")
    assert not process.is_running()
    pods.wait_ready(cluster.namespace, 2)
    after = cluster.pod("vllm-1")
    assert after["metadata"]["uid"] != before["metadata"]["uid"]
    assert after["status"]["podIP"] != before["status"]["podIP"]


def test_statefulset_scales_up_and_down(cluster: Cluster, pods: PodRunnerThread) -> None:
    cluster.statefulset(1)
    pods.wait_ready(cluster.namespace, 1)
    cluster.kubectl("scale", "statefulset/vllm", "--replicas=3")
    pods.wait_ready(cluster.namespace, 3)
    assert pods.pods(cluster.namespace) == ["vllm-0", "vllm-1", "vllm-2"]
    cluster.kubectl("scale", "statefulset/vllm", "--replicas=1")
    pods.wait_ready(cluster.namespace, 1)
    assert pods.pods(cluster.namespace) == ["vllm-0"]


def test_forced_deletion_ends_the_process_too(cluster: Cluster, pods: PodRunnerThread) -> None:
    cluster.statefulset(1)
    pods.wait_ready(cluster.namespace, 1)
    process = psutil.Process(pods.pid_of(cluster.namespace, "vllm-0"))
    cluster.kubectl("delete", "statefulset", "vllm", "--cascade=orphan")
    cluster.kubectl("delete", "pod", "vllm-0", "--force", "--grace-period=0")
    pods.wait_ready(cluster.namespace, 0)
    assert not process.is_running()


def test_frozen_container_makes_its_pod_unready_until_it_goes_on(
    control_plane: ControlPlane, cluster: Cluster, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"probe_seconds": 0.02, "probe_timeout_seconds": 0.2}
    with PodRunnerThread(control_plane.kubeconfig, tmp_path, namespaces=(cluster.namespace,), **options) as pods:
        cluster.statefulset(1)
        pods.wait_ready(cluster.namespace, 1)
        pods.freeze(cluster.namespace, "vllm-0")
        cluster.wait_for("vllm-0", "condition=Ready=false")
        assert cluster.pod("vllm-0")["status"]["containerStatuses"][0]["restartCount"] == 0
        pods.thaw(cluster.namespace, "vllm-0")
        cluster.wait_for("vllm-0", "condition=Ready")


def test_container_that_fails_its_liveness_probe_is_started_again(cluster: Cluster, pods: PodRunnerThread) -> None:
    """Killed after its grace period, as it does not hear that it is to end."""
    template = vllm_pod_template("tiny", grace_seconds=1)
    probe = {"httpGet": {"path": "/health", "port": "http"}, "periodSeconds": 1, "timeoutSeconds": 5}
    # without a startup probe an engine that takes long to start would be ended before it answers, by a kubelet too
    probes = {"livenessProbe": {**probe, "failureThreshold": 2}, "startupProbe": {**probe, "failureThreshold": 600}}
    template["spec"]["containers"][0] |= probes
    template["metadata"] |= {"name": "alive", "namespace": cluster.namespace}
    cluster.apply({"apiVersion": "v1", "kind": "Pod", **template})
    cluster.wait_for("alive", "condition=Ready")
    pods.freeze(cluster.namespace, "alive")
    pods.wait_restarted(cluster.namespace, "alive")
    (status,) = cluster.pod("alive")["status"]["containerStatuses"]
    assert (status["restartCount"], status["lastState"]["terminated"]["exitCode"]) == (1, 137)


def test_readiness_gate_holds_the_pod_back_until_somebody_opens_it(cluster: Cluster, pods: PodRunnerThread) -> None:
    gate = "production-stack.vllm-project/adapters-loaded"
    cluster.statefulset(1, readiness_gates=[gate])
    cluster.wait_for("vllm-0", "condition=ContainersReady")
    assert condition(cluster.pod("vllm-0"), "Ready")["reason"] == "ReadinessGatesNotReady"

    def set_gate(status: str) -> None:
        patch = {"status": {"conditions": [{"type": gate, "status": status, "reason": "Told", "message": "by a test"}]}}
        cluster.kubectl("patch", "pod", "vllm-0", "--subresource=status", "-p", json.dumps(patch))

    set_gate("True")
    pods.wait_ready(cluster.namespace, 1)
    pods.kill_container(cluster.namespace, "vllm-0")
    pods.wait_restarted(cluster.namespace, "vllm-0")
    ready = cluster.pod("vllm-0")
    assert condition(ready, gate)["message"] == "by a test", "a condition of others was overwritten"
    assert "reason" not in condition(ready, "Ready")
    set_gate("False")
    cluster.wait_for("vllm-0", "condition=Ready=false")


def test_native_sidecars_start_first_are_restarted_and_end_last(
    cluster: Cluster, pods: PodRunnerThread, tmp_path: Path
) -> None:
    token = tmp_path / "token"
    token.write_text("t0ken-of-the-agents")
    probed = {"startupProbe": {"httpGet": {"path": "/healthz", "port": "lora-agent"}}}
    agent = agent_container(tmp_path, token) | probed
    cluster.statefulset(1, adapter_root=tmp_path, sidecars=[agent])
    # the agent listens, and waits for an operator that does not come: the pod is not Ready by its engine alone
    cluster.wait_for("vllm-0", "jsonpath={.status.containerStatuses[0].ready}=true")
    waiting = cluster.pod("vllm-0")
    assert condition(waiting, "Initialized")["status"] == "True"
    assert condition(waiting, "Ready")["message"] == "containers with unready status: [agent]"
    (status,) = waiting["status"]["initContainerStatuses"]
    assert (status["name"], status["started"], status["ready"]) == ("agent", True, False)
    began = [psutil.Process(pods.pid_of(cluster.namespace, "vllm-0", name)).create_time() for name in ("agent", "vllm")]
    assert began == sorted(began)
    pods.kill_container(cluster.namespace, "vllm-0", "agent")
    cluster.wait_for("vllm-0", "jsonpath={.status.initContainerStatuses[0].restartCount}=1")
    assert cluster.pod("vllm-0")["status"]["containerStatuses"][0]["restartCount"] == 0
    engine, sidecar = (psutil.Process(pods.pid_of(cluster.namespace, "vllm-0", name)) for name in ("vllm", "agent"))
    cluster.kubectl("delete", "pod", "vllm-0", "--wait=false")
    psutil.wait_procs([sidecar], timeout=30)
    assert not engine.is_running()


def test_api_server_that_is_away_disturbs_no_container_and_hears_later(cluster: Cluster, pods: PodRunnerThread) -> None:
    if cluster.control_plane.existing:
        pytest.skip("takes the API server away")
    cluster.statefulset(2)
    pods.wait_ready(cluster.namespace, 2)
    untouched = pods.pid_of(cluster.namespace, "vllm-0")
    cluster.control_plane.stop_api_server()
    try:
        pods.kill_container(cluster.namespace, "vllm-1")
    finally:
        cluster.control_plane.start_api_server()
    pods.wait_restarted(cluster.namespace, "vllm-1", 1)
    assert cluster.pod("vllm-1")["status"]["containerStatuses"][0]["restartCount"] == 1
    assert pods.pid_of(cluster.namespace, "vllm-0") == untouched


def test_lost_node_is_silent_and_its_pods_start_again_when_it_is_back(cluster: Cluster, pods: PodRunnerThread) -> None:
    cluster.statefulset(3)
    pods.wait_ready(cluster.namespace, 3)
    on_it = next(name for name in pods.pods(cluster.namespace) if cluster.pod(name)["spec"]["nodeName"] == "node-1")
    before = cluster.pod(on_it)
    pods.lose_node("node-1")
    assert not is_healthy(before["status"]["podIP"])
    assert condition(cluster.pod(on_it), "Ready")["status"] == "True", "nobody was there to say otherwise"
    pods.restore_node("node-1")
    pods.wait_ready(cluster.namespace, 3)
    after = cluster.pod(on_it)
    assert after["status"]["containerStatuses"][0]["restartCount"] == 1
    assert after["status"]["podIP"] == before["status"]["podIP"]


def test_container_gets_its_volumes_secrets_and_the_downward_api(
    cluster: Cluster, pods: PodRunnerThread, tmp_path: Path
) -> None:
    cluster.kubectl("create", "secret", "generic", "access", "--from-literal=key=s3cret")
    template = vllm_pod_template("tiny", adapter_root=tmp_path)
    container, volumes = template["spec"]["containers"][0], template["spec"]["volumes"]
    container["env"] += [
        {"name": "VLLM_API_KEY", "valueFrom": {"secretKeyRef": {"name": "access", "key": "key"}}},
        {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "SCRATCH", "value": "/scratch/$(POD)"},
    ]
    container["volumeMounts"].append({"name": "scratch", "mountPath": "/scratch"})
    volumes.append({"name": "scratch", "emptyDir": {}})
    cluster.apply({"apiVersion": "v1", "kind": "Pod", **template, "metadata": {**template["metadata"], "name": "one"}})
    pods.wait_ready(cluster.namespace, 1)
    environment = psutil.Process(pods.pid_of(cluster.namespace, "one")).environ()
    assert environment["VLLM_API_KEY"] == "s3cret"
    assert Path(environment["SCRATCH"]) == pods.folder_of(cluster.namespace, "one") / "volumes" / "scratch" / "one"
    assert Path(environment["SCRATCH"]).parent.is_dir()
    assert "KUBECONFIG" not in environment


def test_image_that_nothing_plays_and_secret_that_is_missing_are_said_in_the_status(
    cluster: Cluster, pods: PodRunnerThread
) -> None:
    cluster.statefulset(1, image="example.com/other:1")
    cluster.wait_for("vllm-0", "jsonpath={.status.containerStatuses[0].state.waiting.reason}=ErrImagePull")
    waiting = cluster.pod("vllm-0")["status"]["containerStatuses"][0]["state"]["waiting"]
    assert "no program plays image 'example.com/other:1'" in waiting["message"]

    template = vllm_pod_template("tiny")
    reference = {"secretKeyRef": {"name": "absent", "key": "key"}}
    template["spec"]["containers"][0]["env"].append({"name": "VLLM_API_KEY", "valueFrom": reference})
    cluster.apply({"apiVersion": "v1", "kind": "Pod", **template, "metadata": {**template["metadata"], "name": "one"}})
    reason = "jsonpath={.status.containerStatuses[0].state.waiting.reason}=CreateContainerConfigError"
    cluster.wait_for("one", reason)
    cluster.kubectl("create", "secret", "generic", "absent", "--from-literal=key=found")
    cluster.wait_for("one", "condition=Ready")


def test_many_engines_run_in_one_process(control_plane: ControlPlane, cluster: Cluster, tmp_path: Path) -> None:
    options: dict[str, Any] = {"namespaces": (cluster.namespace,), "in_process": True}
    with PodRunnerThread(control_plane.kubeconfig, tmp_path / "kubelet", **options) as pods:
        cluster.statefulset(12)
        pods.wait_ready(cluster.namespace, 12)
        assert pods.pid_of(cluster.namespace, "vllm-3") is None
        engine = pods.call(lambda: pods.runner.engine_of(cluster.namespace, "vllm-3"))
        pods.kill_container(cluster.namespace, "vllm-3")
        pods.wait_restarted(cluster.namespace, "vllm-3", 1)
        assert engine.exit_code == 137
        assert cluster.pod("vllm-3")["status"]["containerStatuses"][0]["restartCount"] == 1
        with pytest.raises(ContainerError, match="SIGSTOP needs a process of its own"):
            pods.freeze(cluster.namespace, "vllm-3")


def test_runner_as_a_process_plays_pods_until_it_is_told_to_stop(
    control_plane: ControlPlane, cluster: Cluster, tmp_path: Path
) -> None:
    base = [sys.executable, "-m", "e2e.pods"]
    at = ["--dir", str(tmp_path / "kubelet")]
    command = [*base, "run", *at, "--kubeconfig", str(control_plane.kubeconfig)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as runner:
        assert runner.stdout is not None and "playing pods" in runner.stdout.readline()
        cluster.statefulset(1)
        cluster.kubectl("wait", "--for=create", "pod/vllm-0", "--timeout=30s")
        cluster.wait_for("vllm-0", "condition=Ready")
        listed = subprocess.run([*base, "list", *at], capture_output=True, text=True).stdout
        namespace, pod, container, pid, log = listed.split()
        assert (namespace, pod, container) == (cluster.namespace, "vllm-0", "vllm")
        assert "answers on" in Path(log).read_text()
        assert subprocess.run([*base, "kill", *at, f"{cluster.namespace}/vllm-0"]).returncode == 0
        cluster.wait_for("vllm-0", "jsonpath={.status.containerStatuses[0].restartCount}=1")
        cluster.wait_for("vllm-0", "condition=Ready")
        engine = psutil.Process(int(subprocess.run([*base, "list", *at], capture_output=True).stdout.split()[3]))
        assert engine.pid != int(pid)
        runner.kill()
    _, alive = psutil.wait_procs([engine], timeout=10)
    assert alive == [], "an engine outlived its runner"


def test_waiting_for_pods_that_do_not_come_says_how_they_are(cluster: Cluster, pods: PodRunnerThread) -> None:
    with pytest.raises(PodRunnerError, match=f"0 pods nobody\\* in {cluster.namespace}"):
        pods.wait_ready(cluster.namespace, 1, "nobody", timeout=0.01)
    with pytest.raises(PodRunnerError, match=r"no pod .*/nobody is played here; in this namespace there are: none"):
        pods.kill_container(cluster.namespace, "nobody")
