"""A pod with nothing but a label gets an agent from the API server, whatever made it; others are left as they are.

All of that by the policy, and by the webhook of clusters that have none.
"""

from __future__ import annotations

import asyncio
import base64
import copy
import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from e2e.cluster.authority import Authority
from e2e.controlplane import ControlPlane
from e2e.controlplane.processes import free_ports
from e2e.world.world import eventually
from lora_operator.informers.pod_description import PodDefaults, describe
from lora_operator.injection.webhook import Webhook
from tests.helm.charts import OPERATOR, container, only, template
from tests.helm.test_values import DIGEST

pytestmark = pytest.mark.cluster

POLICY = ("--api-versions", "admissionregistration.k8s.io/v1/MutatingAdmissionPolicy")
KINDS = ("MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding")
INJECTION = {"settings": {"ttl": 3600, "connections": 4}, "caConfigMap": "my-authority"}
LABEL = {"production-stack.vllm-project/agent": "inject"}
ENGINE: dict[str, Any] = {
    "name": "vllm",
    "image": "vllm/vllm-openai:v0.32.0",
    "args": ["meta-llama/Llama-3.1-8B-Instruct", "--enable-lora", "--max-cpu-loras=16", "--port=9000"],
}
Json = dict[str, Any]


def a_pod(*containers: Json, labels: Json | None = None, **metadata: Any) -> Json:
    spec = {"containers": list(containers)}
    named = {"name": "p", "labels": LABEL if labels is None else labels, **metadata}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": named, "spec": spec}


@pytest.fixture(scope="module", params=["policy", "webhook"])
def plane(
    request: pytest.FixtureRequest, control_plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ControlPlane]:
    """With what the chart has for this way, for all namespaces, as soon as it works."""
    directory = tmp_path_factory.mktemp("values")
    values = {"agentInjection": {"by": request.param, **INJECTION}}
    objects = template(OPERATOR, directory, values, *POLICY)
    with ExitStack() as stack:
        if request.param == "policy":
            if "mutatingadmissionpolicies" not in control_plane.kubectl("api-resources", "-o", "name"):
                pytest.skip("this cluster has no MutatingAdmissionPolicy")
            objects = [one for one in objects if one["kind"] in KINDS]
            assert len(objects) == 2
        else:
            if control_plane.url.partition("//")[2].partition(":")[0] != "127.0.0.1":
                pytest.skip("the API server of this cluster does not reach this machine")
            objects = [stack.enter_context(webhook(objects, directory))]
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
        control_plane.kubectl("apply", "--server-side", "-f", "-", input=text)
        eventually(
            lambda: "initContainers" in made(control_plane, a_pod(ENGINE), "default")["spec"], what=("it works",)
        )
        yield control_plane
        control_plane.kubectl("delete", "-f", "-", input=text)


@contextmanager
def webhook(objects: list[Json], directory: Path) -> Iterator[Json]:
    """The operator's webhook on this machine; the chart's configuration with its address instead of the Service."""
    configuration = only(objects, "MutatingWebhookConfiguration")
    parts = directory / "injected.json"
    parts.write_text(only(objects, "ConfigMap", "lora-operator-webhook")["data"]["injected.json"])
    authority = Authority(directory)
    pair = authority.issue("webhook", addresses=[IPv4Address("127.0.0.1")])
    (port,) = free_ports(1)
    with serving(Webhook("127.0.0.1", port, pair.certificate, pair.key, parts)):
        bundle = base64.b64encode(authority.certificate.read_bytes()).decode()
        url = f"https://127.0.0.1:{port}{configuration['webhooks'][0]['clientConfig']['service']['path']}"
        configuration["webhooks"][0]["clientConfig"] = {"url": url, "caBundle": bundle}
        yield configuration


@contextmanager
def serving(webhook: Webhook) -> Iterator[None]:
    """In a thread of its own, as kubectl is waited for here."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        runner = asyncio.run_coroutine_threadsafe(webhook.serve(), loop).result(60)
        yield
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(60)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def made(plane: ControlPlane, pod: Json, namespace: str) -> Json:
    """What the API server would make of this pod."""
    body = json.dumps(pod)
    answer = plane.kubectl("create", "--dry-run=server", "-o", "json", "-f", "-", input=body, namespace=namespace)
    found: Json = json.loads(answer)
    return found


def test_a_label_is_all_that_a_pod_with_an_engine_needs(plane: ControlPlane, namespace: str) -> None:
    pod = made(plane, a_pod(ENGINE), namespace)
    seen = describe(pod, PodDefaults(adapter_root="/elsewhere"))
    assert (seen.opted_in, seen.lora_disabled, seen.problems) == (True, None, ())
    assert (seen.agent_port, seen.port, seen.adapter_root, seen.max_cpu_loras) == (8090, 9000, "/adapters", 16)
    (agent,) = pod["spec"]["initContainers"]
    assert agent["restartPolicy"] == "Always", "it is a native sidecar, and does not keep the pod from its end"
    assert {"--engine-port=9000", "--ttl=3600", "--connections=4", "--ca-file=/etc/lora-ca/ca.crt"} <= set(
        agent["args"]
    )
    assert agent["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "lora-agent", "scheme": "HTTP"}
    (engine,) = pod["spec"]["containers"]
    assert engine["args"] == ENGINE["args"]
    assert {"name": "VLLM_ALLOW_RUNTIME_LORA_UPDATING", "value": "True"} in engine["env"]
    assert {"name": "lora-adapters", "mountPath": "/adapters", "readOnly": True} in engine["volumeMounts"]
    volumes = {one["name"]: one for one in pod["spec"]["volumes"]}
    assert volumes["lora-agent-token"]["secret"]["secretName"] == "lora-agent-token"
    assert volumes["lora-adapters"]["emptyDir"] == {"sizeLimit": "60Gi"}
    assert volumes["lora-ca"]["configMap"]["name"] == "my-authority"


@pytest.mark.parametrize(
    ("engine", "port"),
    [
        ({"command": ["vllm", "serve"], "args": ["m", "--enable-lora", "--port", "8080"]}, 8080),
        ({"command": ["/bin/bash", "-c", "exec vllm serve m --enable-lora"]}, 8000),
        ({"args": ["m", "--enable-lora", "--port"]}, 8000),
        ({"args": ["--enable-lora"], "env": [{"name": "VLLM_ALLOW_RUNTIME_LORA_UPDATING", "value": "1"}]}, 8000),
        ({"args": ["--enable-lora"], "volumeMounts": [{"name": "own", "mountPath": "/own"}]}, 8000),
    ],
)
def test_the_engine_is_found_whatever_it_is_called(
    plane: ControlPlane, namespace: str, engine: Json, port: int
) -> None:
    pod = a_pod({"name": "proxy", "image": "a"}, {"name": "kserve-container", "image": "vllm/vllm-openai:v1", **engine})
    pod["spec"]["volumes"] = [{"name": "own", "emptyDir": {}}]
    pod["spec"]["initContainers"] = [{"name": "first", "image": "b"}]
    got = made(plane, pod, namespace)
    assert [one["name"] for one in got["spec"]["initContainers"]] == ["first", "lora-agent"]
    assert f"--engine-port={port}" in got["spec"]["initContainers"][1]["args"]
    proxy, served = got["spec"]["containers"]
    assert "/adapters" not in str(proxy["volumeMounts"])
    assert "/adapters" in {one["mountPath"] for one in served["volumeMounts"]}
    names = [one["name"] for one in served["env"]]
    assert names.count("VLLM_ALLOW_RUNTIME_LORA_UPDATING") == 1
    if "volumeMounts" in engine:
        assert "/own" in {one["mountPath"] for one in served["volumeMounts"]}


def test_what_annotations_say_counts(plane: ControlPlane, namespace: str) -> None:
    pod = a_pod(ENGINE, annotations={"production-stack.vllm-project/port": "8200", "mine": "x"})
    got = made(plane, pod, namespace)
    assert "--engine-port=8200" in got["spec"]["initContainers"][0]["args"]
    assert got["metadata"]["annotations"]["mine"] == "x"


def test_a_pod_that_mounts_a_volume_for_adapters_is_left_as_it_is(plane: ControlPlane, namespace: str) -> None:
    pod = a_pod({**ENGINE, "volumeMounts": [{"name": "shared", "mountPath": "/adapters"}]})
    pod["spec"]["volumes"] = [{"name": "shared", "persistentVolumeClaim": {"claimName": "lora-adapters"}}]
    assert "initContainers" not in made(plane, pod, namespace)["spec"]


@pytest.mark.parametrize("labels", [{}, {"production-stack.vllm-project/lora": "enabled"}, {**LABEL, "x": "y"}])
def test_pods_without_the_label_and_those_with_an_agent_are_left_as_they_are(
    plane: ControlPlane, namespace: str, labels: Json
) -> None:
    pod = a_pod(ENGINE, labels=labels)
    if labels.keys() >= LABEL.keys():
        agent = {"name": "agent", "image": "a", "ports": [{"name": "lora-agent", "containerPort": 8090}]}
        pod["spec"]["containers"].append(agent)
    got = made(plane, copy.deepcopy(pod), namespace)
    assert "initContainers" not in got["spec"]
    assert got["metadata"].get("labels", {}) == labels
    assert "env" not in got["spec"]["containers"][0]


def test_pods_of_a_deployment_get_one_too_and_pass_pod_security(plane: ControlPlane, namespace: str) -> None:
    plane.kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
    security = {
        "allowPrivilegeEscalation": False, "runAsNonRoot": True, "runAsUser": 1000, "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }  # fmt: skip
    pod = a_pod({**ENGINE, "securityContext": security})
    body = {"selector": {"matchLabels": LABEL}, "template": {"metadata": {"labels": LABEL}, "spec": pod["spec"]}}
    deployment = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "own"}, "spec": body}
    plane.kubectl("apply", "-f", "-", input=json.dumps(deployment), namespace=namespace)

    def pods() -> list[Json]:
        found: list[Json] = json.loads(plane.kubectl("get", "pods", "-o", "json", namespace=namespace))["items"]
        return found

    eventually(lambda: len(pods()) == 1, what=("its pod is admitted",))
    (got,) = pods()
    assert describe(got, PodDefaults()).agent_port == 8090
    plane.kubectl("delete", "deployment", "own", namespace=namespace)


def test_it_is_held_to_the_namespaces_that_are_watched_and_left_out_where_clusters_are_older(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("values")
    values = {"watchNamespaces": ["team-a"], "image": {"digest": DIGEST}}
    (policy, _) = [one for one in template(OPERATOR, folder, values, *POLICY) if one["kind"] in KINDS]
    (rule,) = policy["spec"]["matchConstraints"]["namespaceSelector"]["matchExpressions"]
    assert rule == {"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["team-a"]}
    assert policy["spec"]["failurePolicy"] == "Ignore"
    assert DIGEST in json.dumps(policy)
    beta = template(OPERATOR, folder, values, POLICY[0], POLICY[1].replace("/v1/", "/v1beta1/"))
    versions = {one["apiVersion"] for one in beta if one["kind"] in KINDS}
    assert versions == {"admissionregistration.k8s.io/v1beta1"}
    off = values | {"agentInjection": {"enabled": False}}
    assert not [one for one in template(OPERATOR, folder, off, *POLICY) if one["kind"] in KINDS]


def test_clusters_without_the_policy_get_a_webhook_that_is_asked_about_no_other_pods(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("values")
    objects = template(OPERATOR, folder, {"watchNamespaces": ["team-a"]})
    assert not [one for one in objects if one["kind"] in KINDS]
    (hook,) = only(objects, "MutatingWebhookConfiguration")["webhooks"]
    assert (hook["failurePolicy"], hook["sideEffects"], hook["objectSelector"]) == (
        "Ignore",
        "None",
        {"matchLabels": LABEL},
    )
    assert hook["namespaceSelector"]["matchExpressions"][0]["values"] == ["team-a"]
    secret = only(objects, "Secret", "lora-operator-webhook")
    assert hook["clientConfig"]["caBundle"] == secret["data"]["ca.crt"]
    own = {"agentInjection": {"webhook": {"existingSecret": "mine", "caBundle": "YWJj"}}}
    given = template(OPERATOR, folder, own)
    assert not [one for one in given if one["kind"] == "Secret" and one["metadata"]["name"] == "lora-operator-webhook"]
    assert only(given, "MutatingWebhookConfiguration")["webhooks"][0]["clientConfig"]["caBundle"] == "YWJj"
    for values in ({"by": "policy"}, {"enabled": False}):
        none = template(OPERATOR, folder, {"agentInjection": values})
        assert not [one for one in none if one["kind"] in (*KINDS, "MutatingWebhookConfiguration")]
        operator = container(only(none, "Deployment", "lora-operator"), "operator")
        assert "--injection-port" not in str(operator)
