"""The cluster itself: what the kubelet and the provisioner of volumes do for any user."""

from __future__ import annotations

import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator

import pytest

from e2e.cluster.behaviours.kube import Kube, is_ready
from e2e.cluster.own_images import SIMULATOR_IMAGE
from e2e.controlplane.processes import free_ports
from e2e.world.rest import Json

NAMESPACE = "behaviours"
POD = "web"


def a_web_server(claim: str) -> list[Json]:
    container = {
        "name": "web",
        "image": SIMULATOR_IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python3", "-u", "-m", "http.server", "8000", "--directory", "/files"],
        "readinessProbe": {"tcpSocket": {"port": 8000}, "periodSeconds": 1},
        "volumeMounts": [{"name": "files", "mountPath": "/files"}],
    }
    return [
        {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": claim, "namespace": NAMESPACE},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}},
        },
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": POD, "namespace": NAMESPACE, "labels": {"app": POD}},
            "spec": {
                "containers": [container],
                "volumes": [{"name": "files", "persistentVolumeClaim": {"claimName": claim}}],
            },
        },
    ]


@pytest.fixture(scope="module")
def web(images: Kube) -> Iterator[Kube]:
    """A pod with a claim of the default StorageClass, and its namespace."""
    images.run("delete", "namespace", NAMESPACE, "--ignore-not-found", "--timeout=120s")
    images.run("create", "namespace", NAMESPACE)
    images.apply(*a_web_server("files"))
    images.wait(NAMESPACE, POD, lambda pod: bool(pod) and is_ready(pod))
    yield images
    images.run("delete", "namespace", NAMESPACE, "--timeout=120s")


def test_claim_without_a_class_is_bound_by_the_default_one(web: Kube) -> None:
    claim = web.rest.get(f"/api/v1/namespaces/{NAMESPACE}/persistentvolumeclaims/files")
    assert claim["status"]["phase"] == "Bound"


def test_exec_writes_to_the_volume_and_logs_tell_who_read_it(web: Kube) -> None:
    write = "import pathlib; pathlib.Path('/files/note').write_text('kept')"
    web.run("exec", POD, "--", "python3", "-c", write, namespace=NAMESPACE)
    read = "import urllib.request; print(urllib.request.urlopen('http://127.0.0.1:8000/note').read().decode())"
    assert web.run("exec", POD, "--", "python3", "-c", read, namespace=NAMESPACE).strip() == "kept"
    assert "GET /note" in web.run("logs", POD, namespace=NAMESPACE)


def test_metrics_of_nodes_and_pods_are_there_after_a_while(web: Kube) -> None:
    if web.cluster is None:
        pytest.skip("not every cluster has a metrics server")
    web.run("wait", "--for=condition=Available", "apiservice/v1beta1.metrics.k8s.io", "--timeout=180s")
    deadline = time.monotonic() + 120
    while POD not in (shown := web.run("top", "pod", namespace=NAMESPACE, check=False)):
        assert time.monotonic() < deadline, shown
        time.sleep(1)  # metrics are gathered every 15 s, and nothing tells of it
    assert "node1" in web.run("top", "node")


def test_port_forward_leads_to_the_pod(web: Kube) -> None:
    (port,) = free_ports(1)
    command = [str(web.kubectl), f"--kubeconfig={web.kubeconfig}", "-n", NAMESPACE, "port-forward", f"pod/{POD}"]
    forward = subprocess.Popen([*command, f"{port}:8000"], stdout=subprocess.PIPE, text=True)
    watchdog = threading.Timer(60, forward.kill)
    watchdog.start()
    try:
        assert forward.stdout is not None
        assert "Forwarding" in forward.stdout.readline()
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=30) as answer:
            assert answer.status == 200
    finally:
        watchdog.cancel()
        forward.kill()
        forward.communicate()


def test_service_is_found_by_its_name_and_leads_to_pods_on_other_nodes(web: Kube) -> None:
    here = web.rest.get(f"/api/v1/namespaces/{NAMESPACE}/pods/{POD}")["spec"]["nodeName"]
    nodes = sorted(node["metadata"]["name"] for node in web.rest.get("/api/v1/nodes")["items"])
    elsewhere = next((name for name in nodes if name != here), here)
    web.run("expose", f"pod/{POD}", "--port=8000", namespace=NAMESPACE)
    read = (
        f"import urllib.request; print(urllib.request.urlopen('http://{POD}.{NAMESPACE}.svc:8000/', timeout=5).status)"
    )
    retry = f"""
import time
for _ in range(60):
    try:
        {read}
        break
    except OSError as error:
        print(error)
        time.sleep(1)
else:
    raise SystemExit(1)
"""
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "reader", "namespace": NAMESPACE},
        "spec": {
            "nodeName": elsewhere,
            "restartPolicy": "Never",
            "containers": [{"name": "reader", "image": SIMULATOR_IMAGE, "command": ["python3", "-u", "-c", retry]}],
        },
    }
    web.apply(pod)
    ended = web.wait(NAMESPACE, "reader", lambda body: body.get("status", {}).get("phase") in ("Succeeded", "Failed"))
    assert ended["status"]["phase"] == "Succeeded", web.run("logs", "reader", namespace=NAMESPACE)


def test_pods_reach_the_api_server_under_its_own_name(web: Kube) -> None:
    read = """
import ssl, urllib.request
folder = "/var/run/secrets/kubernetes.io/serviceaccount"
context = ssl.create_default_context(cafile=folder + "/ca.crt")
request = urllib.request.Request("https://kubernetes.default.svc/version")
request.add_header("Authorization", "Bearer " + open(folder + "/token").read())
print(urllib.request.urlopen(request, context=context, timeout=20).status)
"""
    assert web.run("exec", POD, "--", "python3", "-c", read, namespace=NAMESPACE).strip() == "200"
