"""The control plane as it is used: kubectl, service accounts, audit log, and how it starts and ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from e2e.controlplane import ControlPlane, ControlPlaneError, KubectlError
from e2e.controlplane.__main__ import main
from e2e.controlplane.existing import is_wanted
from e2e.controlplane.state import load_state
from e2e.controlplane.versions import KUBERNETES_VERSION

pytestmark = pytest.mark.cluster
own = pytest.mark.skipif(is_wanted(os.environ), reason="an existing cluster has its own servers")


@own
def test_server_says_the_version_that_it_was_built_from(control_plane: ControlPlane) -> None:
    said = json.loads(control_plane.kubectl("version", "-o", "json"))
    assert said["serverVersion"]["gitVersion"] == f"v{KUBERNETES_VERSION}"
    assert said["clientVersion"]["gitVersion"] == f"v{KUBERNETES_VERSION}"


def test_kubectl_tells_why_it_failed(control_plane: ControlPlane, namespace: str) -> None:
    with pytest.raises(KubectlError, match=r"kubectl get pod nobody: exit code 1: .*NotFound"):
        control_plane.kubectl("get", "pod", "nobody", namespace=namespace)
    assert "NotFound" in control_plane.kubectl("get", "pod", "nobody", namespace=namespace, check=False)


def test_service_account_may_only_do_what_its_role_allows(control_plane: ControlPlane, namespace: str) -> None:
    control_plane.kubectl("create", "serviceaccount", "reader", namespace=namespace)
    kubeconfig = control_plane.service_account_kubeconfig(namespace, "reader")

    def get_pods() -> subprocess.CompletedProcess[str]:
        command = [str(control_plane.kubectl_path), f"--kubeconfig={kubeconfig}", "get", "pods"]
        return subprocess.run(command, capture_output=True, text=True)

    refused = get_pods()
    assert f'User "system:serviceaccount:{namespace}:reader" cannot list resource "pods"' in refused.stderr

    control_plane.kubectl("create", "role", "read", "--verb=get,list", "--resource=pods", namespace=namespace)
    bind = ("create", "rolebinding", "read", "--role=read", f"--serviceaccount={namespace}:reader")
    control_plane.kubectl(*bind, namespace=namespace)
    assert get_pods().returncode == 0


@own
def test_audit_log_tells_who_wrote_what(control_plane: ControlPlane, namespace: str) -> None:
    control_plane.kubectl("create", "configmap", "noted", namespace=namespace)
    entries = [json.loads(line) for line in control_plane.audit_log.read_text().splitlines()]
    created = [
        (entry["user"]["username"], entry["verb"], entry["responseStatus"]["code"])
        for entry in entries
        if entry.get("objectRef", {}).get("namespace") == namespace
        and entry["objectRef"].get("name") == "noted"
        and entry["verb"] == "create"
    ]
    assert created == [("admin", "create", 201)]


def test_controllers_collect_what_belongs_to_a_deleted_object(control_plane: ControlPlane, namespace: str) -> None:
    control_plane.kubectl("create", "deployment", "web", "--image=none", "--replicas=2", namespace=namespace)
    control_plane.kubectl("wait", "--for=create", "pod", "-l", "app=web", "--timeout=30s", namespace=namespace)
    control_plane.kubectl("delete", "deployment", "web", "--cascade=foreground", "--timeout=30s", namespace=namespace)
    assert control_plane.kubectl("get", "pods,replicasets", "-o", "name", namespace=namespace) == ""


@own
def test_by_hand_it_goes_up_outlives_its_starter_and_goes_down(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    at = ["--dir", str(tmp_path / "plane")]
    starter = subprocess.run(
        [sys.executable, "-m", "e2e.controlplane", "up", *at], capture_output=True, text=True, timeout=100
    )
    state = load_state(tmp_path / "plane")
    assert starter.returncode == 0 and state is not None, starter.stderr
    try:
        servers = [server.find() for server in state.servers.values()]
        assert main(["up", *at]) == 0
        assert "already running" in capsys.readouterr().out
        assert main(["status", *at]) == 0
        assert capsys.readouterr().out.count("running") == 3
        assert main(["env", *at]) == 0
        shell = capsys.readouterr().out + "kubectl create namespace by-hand -o name"
        made = subprocess.run(["bash", "-c", shell], capture_output=True, text=True)
        assert made.stdout.strip() == "namespace/by-hand", made.stderr
    finally:
        assert main(["down", *at]) == 0
    assert all(server is None or not server.is_running() for server in servers)
    assert main(["status", *at]) == 3
    assert main(["env", *at]) == 1
    assert "python -m e2e.controlplane up" in capsys.readouterr().err


def test_server_outlives_the_thread_that_asked_for_it_but_not_its_owner(tmp_path: Path) -> None:
    script = (
        "import sys, pathlib, threading\n"
        "from e2e.controlplane.processes import Launcher\n"
        "launcher, started = Launcher(detached=False), []\n"
        "server = [sys.executable, '-c', 'print(1, flush=True); import time; time.sleep(600)']\n"
        "def start():\n"
        "    started.append(launcher.start(server, pathlib.Path(sys.argv[1])))\n"
        "thread = threading.Thread(target=start)\n"
        "thread.start()\n"
        "thread.join()\n"
        "print(started[0].pid, flush=True)\n"
        "sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "log")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        server = psutil.Process(int(owner.stdout.readline()))
        assert server.status() != psutil.STATUS_ZOMBIE
        owner.send_signal(signal.SIGKILL)
    _, alive = psutil.wait_procs([server], timeout=10)
    assert alive == []


def test_existing_cluster_is_used_and_left_alone(
    control_plane: ControlPlane, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("USE_EXISTING_CLUSTER", "1")
    monkeypatch.setenv("KUBECONFIG", str(control_plane.kubeconfig))
    with ControlPlane.start(tmp_path) as plane:
        assert plane.existing and plane.url == control_plane.url
        with pytest.raises(ControlPlaneError, match="unset USE_EXISTING_CLUSTER"):
            plane.stop_api_server()
        assert plane.service_account_kubeconfig("default", "default").is_file()
    assert "default" in control_plane.kubectl("get", "namespaces", "-o", "name")


def test_existing_cluster_that_is_not_there_is_said_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USE_EXISTING_CLUSTER", "1")
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "absent"))
    with pytest.raises(ControlPlaneError, match="absent does not exist; point KUBECONFIG"):
        ControlPlane.start(tmp_path)
