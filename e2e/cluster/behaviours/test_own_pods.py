"""A Deployment of a user's own, which only has the label of docs/own-pods.md."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from e2e.cluster.behaviours.installation import Installation
from e2e.cluster.own_images import SIMULATOR_IMAGE
from e2e.cluster.sample import BASE_MODEL, TEAM
from e2e.world.rest import Json

NAME = "own"
ADAPTER = "poet"


def a_deployment(label: str) -> Json:
    arguments = ["--model=/model", f"--served-model-name={BASE_MODEL}", "--port=8000"]
    arguments += ["--enable-lora", "--max-loras=2", "--max-cpu-loras=4", "--max-lora-rank=16"]
    vllm = {
        "name": "vllm",
        "image": SIMULATOR_IMAGE,
        "imagePullPolicy": "IfNotPresent",
        "args": arguments,
        "ports": [{"containerPort": 8000}],
        "readinessProbe": {"httpGet": {"path": "/health", "port": 8000}, "periodSeconds": 1},
        "volumeMounts": [{"name": "model", "mountPath": "/model", "readOnly": True}],
    }
    labels = {"app": NAME, "production-stack.vllm-project/agent": label}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": NAME, "namespace": TEAM},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"app": NAME}},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"containers": [vllm], "volumes": [{"name": "model", "configMap": {"name": "model"}}]},
            },
        },
    }


@pytest.fixture(scope="module", params=["policy", "webhook"])
def injecting(request: pytest.FixtureRequest, installed: Installation) -> Iterator[Installation]:
    """By this way alone."""
    kinds = installed.kube.run("api-resources", "-o", "name")
    if request.param == "policy" and "mutatingadmissionpolicies" not in kinds:
        pytest.skip("this cluster has no MutatingAdmissionPolicy")
    installed.upgrade_operator("--wait", "--timeout", "300s", agentInjection={"by": request.param})
    yield installed
    installed.upgrade_operator("--wait", "--timeout", "300s")


@pytest.fixture
def own(injecting: Installation) -> Iterator[Installation]:
    yield injecting
    injecting.kube.run("delete", f"deployment/{NAME}", f"loraadapter/{ADAPTER}", "--ignore-not-found", namespace=TEAM)
    injecting.kube.run("wait", "--for=delete", "pod", "-l", f"app={NAME}", "--timeout=180s", namespace=TEAM)


def test_pod_with_the_label_alone_gets_an_agent_and_adapters(own: Installation) -> None:
    own.kube.apply(a_deployment("inject"))
    own.declare(ADAPTER, 1, podSelector={"matchLabels": {"app": NAME}})
    own.wait_adapter(ADAPTER)
    own.kube.run("rollout", "status", f"deployment/{NAME}", "--timeout=180s", namespace=TEAM)
    (pod,) = own.kube.pods(TEAM, f"app={NAME}")
    assert [one["name"] for one in pod["spec"]["initContainers"]] == ["lora-agent"]
    assert [one["pod"] for one in own.status(ADAPTER)["podAssignments"]] == [pod["metadata"]["name"]]


def test_pod_with_another_label_is_left_as_it_is(own: Installation) -> None:
    own.kube.apply(a_deployment("none"))
    own.kube.run("rollout", "status", f"deployment/{NAME}", "--timeout=180s", namespace=TEAM)
    (pod,) = own.kube.pods(TEAM, f"app={NAME}")
    assert "initContainers" not in pod["spec"]
    assert [one["name"] for one in pod["spec"]["containers"]] == ["vllm"]
