"""The plain manifests on a real API server: they apply in one go, and the operator may do what it must and no more."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client, config

from e2e.controlplane import ControlPlane

pytestmark = pytest.mark.cluster

ROOT = Path(__file__).parents[2]
SYSTEM = "lora-operator-system"
ACCOUNT = f"system:serviceaccount:{SYSTEM}:lora-operator"
GATE = "production-stack.vllm-project/adapters-loaded"
OWN = "production-stack.vllm-project/served-versions"

POD = json.dumps(
    {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "vllm-0", "labels": {"app": "vllm"}, "annotations": {"theirs": "1"}},
        "spec": {"containers": [{"name": "vllm", "image": "vllm"}]},
    }
)


@pytest.fixture(scope="module")
def installed(control_plane: ControlPlane) -> Iterator[ControlPlane]:
    folders = ("-f", str(ROOT / "crds"), "-f", str(ROOT / "manifests" / "install"))
    control_plane.kubectl("apply", "--server-side", *folders)
    # kubectl reads what it patches, the operator does not: for these tests its account may do so too
    for command in (
        ("clusterrole", "kubectl-reads-pods", "--verb=get", "--resource=pods"),
        ("clusterrolebinding", "kubectl-reads-pods", "--clusterrole=kubectl-reads-pods", f"--user={ACCOUNT}"),
    ):
        control_plane.kubectl("create", *command)
    control_plane.create_namespace("guarded")
    control_plane.kubectl("apply", "-f", "-", input=POD, namespace="guarded")
    # The API server loads policies in the background and says nowhere that it has: only a refusal tells.
    for _ in range(300):
        answer = as_operator(control_plane, "label", "pod", "vllm-0", "a=b", "--dry-run=server", namespace="guarded")
        if "may not change labels" in answer:
            break
    control_plane.kubectl("delete", "namespace", "guarded", "--wait=false")
    yield control_plane
    control_plane.kubectl("delete", "clusterrole,clusterrolebinding", "kubectl-reads-pods")
    if control_plane.existing:  # one of our own ends with the session, and other tests may use what is installed
        control_plane.kubectl("delete", "--wait=false", "--ignore-not-found", *folders)


@pytest.fixture
def pod(installed: ControlPlane, namespace: str) -> str:
    installed.kubectl("apply", "-f", "-", input=POD, namespace=namespace)
    return namespace


def as_operator(plane: ControlPlane, *arguments: str, namespace: str) -> str:
    return plane.kubectl(*arguments, f"--as={ACCOUNT}", namespace=namespace, check=False)


@pytest.fixture(scope="module")
def operators_api(installed: ControlPlane) -> Iterator[client.CoreV1Api]:
    """The core API as the operator's account: kubectl would read a subresource before it patches it."""
    with config.new_client_from_config(config_file=str(installed.kubeconfig)) as connection:
        connection.set_default_header("Impersonate-User", ACCOUNT)
        yield client.CoreV1Api(connection)


def test_installing_twice_changes_nothing(installed: ControlPlane) -> None:
    folders = ("-f", str(ROOT / "crds"), "-f", str(ROOT / "manifests" / "install"))
    diff = installed.kubectl("diff", "--server-side", *folders, check=False)
    assert diff == ""


def test_samples_are_admitted(installed: ControlPlane, namespace: str) -> None:
    installed.kubectl("apply", "-f", str(ROOT / "manifests" / "samples"), namespace=namespace)


@pytest.mark.parametrize(
    "question",
    [
        "list loraadapters.production-stack.vllm-project",
        "watch loraadapters.production-stack.vllm-project",
        "patch loraadapters.production-stack.vllm-project",
        "patch loraadapters.production-stack.vllm-project/status",
        "watch loraendpoints.production-stack.vllm-project",
        "create loraendpoints.production-stack.vllm-project",
        "patch loraendpoints.production-stack.vllm-project",
        "watch pods",
        "patch pods",
        "patch pods/status",
        "get nodes",
        "create events",
    ],
)
def test_the_operator_may(installed: ControlPlane, question: str) -> None:
    verb, resource = question.split()
    resource, _, subresource = resource.partition("/")
    more = [f"--subresource={subresource}"] if subresource else []
    assert as_operator(installed, "auth", "can-i", verb, resource, *more, namespace="default").strip() == "yes"


@pytest.mark.parametrize(
    "question",
    [
        "create loraadapters.production-stack.vllm-project",
        "delete loraadapters.production-stack.vllm-project",
        "delete loraendpoints.production-stack.vllm-project",
        "get secrets",
        "list secrets",
        "create pods",
        "delete pods",
        "patch nodes",
        "list namespaces",
        "list customresourcedefinitions.apiextensions.k8s.io",
        "create serviceaccounts",
        "escalate clusterroles.rbac.authorization.k8s.io",
    ],
)
def test_the_operator_may_not(installed: ControlPlane, question: str) -> None:
    verb, resource = question.split()
    answer = as_operator(installed, "auth", "can-i", verb, resource, namespace="default")
    assert "no" in answer.splitlines()


def test_the_operator_may_annotate_a_pod(installed: ControlPlane, pod: str) -> None:
    assert "annotated" in as_operator(installed, "annotate", "pod", "vllm-0", f"{OWN}=x", namespace=pod)
    assert "annotated" in as_operator(installed, "annotate", "pod", "vllm-0", f"{OWN}-", namespace=pod)


def test_the_operator_may_open_its_gate(installed: ControlPlane, pod: str, operators_api: client.CoreV1Api) -> None:
    others = [{"type": kind, "status": "True"} for kind in ("PodReadyToStartContainers", "Initialized")]
    patch = json.dumps({"status": {"conditions": others}})
    installed.kubectl("patch", "pod", "vllm-0", "--subresource=status", "-p", patch, namespace=pod)
    for status in ("False", "True"):
        gate = {"status": {"conditions": [{"type": GATE, "status": status}]}}
        seen = operators_api.patch_namespaced_pod_status("vllm-0", pod, gate)
        assert {one.type: one.status for one in seen.status.conditions}[GATE] == status


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"metadata": {"annotations": {"other": "x"}}}, "only change annotations"),
        ({"metadata": {"annotations": {"theirs": "2"}}}, "only change annotations"),
        ({"metadata": {"annotations": {"theirs": None}}}, "only change annotations"),
        ({"metadata": {"labels": {"app": "other"}}}, "may not change labels"),
        ({"metadata": {"finalizers": ["a.example/b"]}}, "may not change labels, finalizers"),
        ({"spec": {"containers": [{"name": "vllm", "image": "other"}]}}, "may not change the spec"),
        ({"spec": {"activeDeadlineSeconds": 1}}, "may not change the spec"),
    ],
)
def test_the_operator_may_change_nothing_else_of_a_pod(
    installed: ControlPlane, pod: str, change: dict[str, object], says: str
) -> None:
    assert says in as_operator(installed, "patch", "pod", "vllm-0", "-p", json.dumps(change), namespace=pod)


@pytest.mark.parametrize(
    "status",
    [
        {"conditions": [{"type": "Ready", "status": "True"}]},
        {"phase": "Running"},
        {"podIPs": [{"ip": "10.1.2.3"}], "podIP": "10.1.2.3"},
        {"containerStatuses": [{"name": "vllm", "image": "x", "imageID": "", "ready": True, "restartCount": 0}]},
    ],
)
def test_the_operator_may_change_nothing_else_of_a_pods_status(
    pod: str, operators_api: client.CoreV1Api, status: dict[str, Any]
) -> None:
    with pytest.raises(client.ApiException, match="may only change the condition"):
        operators_api.patch_namespaced_pod_status("vllm-0", pod, {"status": status})


def test_others_may_change_pods_as_before(installed: ControlPlane, pod: str) -> None:
    installed.kubectl("label", "pod", "vllm-0", "app=other", "--overwrite", namespace=pod)


def test_who_may_edit_a_namespace_may_edit_its_adapters(installed: ControlPlane, namespace: str) -> None:
    installed.kubectl("create", "serviceaccount", "dev", namespace=namespace)
    installed.kubectl(
        "create", "rolebinding", "dev", "--clusterrole=edit", f"--serviceaccount={namespace}:dev", namespace=namespace
    )
    account = f"--as=system:serviceaccount:{namespace}:dev"
    resource = "loraadapters.production-stack.vllm-project"
    installed.kubectl("wait", "--for=jsonpath={.rules}", "--timeout=10s", "clusterrole/edit")
    answers = [installed.kubectl("auth", "can-i", v, resource, account, namespace=namespace) for v in ("create", "get")]
    assert [answer.strip() for answer in answers] == ["yes", "yes"]
