"""The chart of vLLM pods: what it tells vLLM, the operator and the agent agrees, and the port is closed to others."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pytest

from e2e.controlplane.errors import HelmError
from helm import render
from lora_operator.agent.settings import AgentSettings, from_arguments
from lora_operator.informers.pod_description import PodDefaults, describe
from lora_operator.settings.options import add_options
from tests.helm.charts import PODS, container, only, template
from tests.helm.chosen import all_settings, as_chosen

LLAMA = {"name": "llama", "model": "meta-llama/Llama-3.1-8B-Instruct"}


def pod_of(objects: list[dict[str, Any]], name: str = "vllm-llama") -> dict[str, Any]:
    """The pod that a StatefulSet makes."""
    template_of = only(objects, "StatefulSet", name)["spec"]["template"]
    return {
        "metadata": {"name": f"{name}-0", "namespace": "team", **template_of["metadata"]},
        "spec": template_of["spec"],
    }


@pytest.mark.parametrize("without", ["annotations", "args"])
def test_flags_and_annotations_say_the_same(tmp_path: Path, without: str) -> None:
    lora = {"maxLoras": 3, "maxCpuLoras": 7, "maxLoraRank": 64, "memory": "5Gi"}
    pod = pod_of(template(PODS, tmp_path, {"models": [LLAMA | {"port": 9000, "loraConfig": lora}]}))
    (engine,) = [one for one in pod["spec"]["containers"] if one["name"] == "vllm"]
    if without == "annotations":
        pod["metadata"]["annotations"] = {}
    else:
        engine["args"] = ["--enable-lora"]
    seen = describe(pod, PodDefaults())
    assert (seen.max_loras, seen.max_cpu_loras, seen.max_lora_rank, seen.port) == (3, 7, 64, 9000)
    assert seen.base_models == ("meta-llama/Llama-3.1-8B-Instruct",)
    assert seen.memory_bytes == (None if without == "annotations" else 5 << 30)
    assert (seen.opted_in, seen.lora_enabled, seen.problems) == (True, True, ())
    assert seen.readiness_gates == ()
    assert seen.agent_port == 8090


def test_a_pod_with_an_agent_is_opened_by_that_and_others_by_a_gate_where_it_is_chosen(tmp_path: Path) -> None:
    def rendered(**values: Any) -> dict[str, Any]:
        return only(template(PODS, tmp_path, {"models": [LLAMA | {"port": 9000}], **values}), "StatefulSet")

    agent = container(rendered(), "agent")
    assert agent["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "lora-agent"}
    assert agent["livenessProbe"]["httpGet"]["path"] == "/healthz"
    assert {"--engine-port=9000", "--pod-uid=$(POD_UID)"} <= set(agent["args"])
    assert {"name": "POD_UID", "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}} in agent["env"]
    shared = {"delivery": {"kind": "sharedVolume"}}
    assert "readinessGates" not in rendered(**shared)["spec"]["template"]["spec"]
    gated = rendered(**shared, modelDefaults={"readinessGate": True})["spec"]["template"]["spec"]
    assert gated["readinessGates"] == [{"conditionType": "production-stack.vllm-project/adapters-loaded"}]


def test_a_model_without_lora_takes_no_part(tmp_path: Path) -> None:
    pod = pod_of(template(PODS, tmp_path, {"models": [LLAMA | {"loraConfig": {"enabled": False}}]}))
    seen = describe(pod, PodDefaults())
    assert (seen.opted_in, seen.lora_enabled, seen.readiness_gates) == (False, False, ())
    assert [one["name"] for one in pod["spec"]["containers"]] == ["vllm"]
    assert "VLLM_ALLOW_RUNTIME_LORA_UPDATING" not in json.dumps(pod)


def test_every_setting_of_the_agent_can_be_chosen(tmp_path: Path) -> None:
    chosen = all_settings(AgentSettings, render.AGENT_GIVEN)
    agent = {"settings": chosen, "port": 9999}
    objects = template(PODS, tmp_path, {"models": [LLAMA], "delivery": {"agent": agent, "cacheBytes": "7Gi"}})
    arguments = [
        argument.replace("$(POD_NAMESPACE)/$(POD_NAME)", "team/vllm-0").replace("$(POD_UID)", "uid-1")
        for argument in container(only(objects, "StatefulSet"), "agent")["args"]
    ]
    parser = argparse.ArgumentParser()
    add_options(parser, AgentSettings, "LORA_AGENT_")
    got = from_arguments(parser.parse_args(arguments[1:]), {})
    assert (arguments[0], got.port, got.cache_bytes, str(got.root)) == ("agent", 9999, 7 << 30, "/adapters")
    assert as_chosen(got, AgentSettings, render.AGENT_GIVEN) == chosen


@pytest.mark.parametrize("kind", ["podDisk", "nodeDisk", "sharedVolume"])
def test_the_engine_may_not_write_where_adapters_are(tmp_path: Path, kind: str) -> None:
    objects = template(PODS, tmp_path, {"models": [LLAMA], "delivery": {"kind": kind, "root": "/lora"}})
    stateful = only(objects, "StatefulSet")
    (mount,) = [one for one in container(stateful, "vllm")["volumeMounts"] if one["name"] == "adapters"]
    assert mount == {"name": "adapters", "mountPath": "/lora", "readOnly": True}
    names = [one["name"] for one in stateful["spec"]["template"]["spec"]["containers"]]
    assert names == (["vllm"] if kind == "sharedVolume" else ["vllm", "agent"])


def test_only_the_operator_and_named_clients_reach_the_port(tmp_path: Path) -> None:
    gateway = {"podSelector": {"matchLabels": {"app": "gateway"}}}
    objects = template(PODS, tmp_path, {"models": [LLAMA], "networkPolicy": {"clients": [gateway]}})
    operator, clients = only(objects, "NetworkPolicy")["spec"]["ingress"]
    assert clients == {"from": [gateway], "ports": [{"port": "http"}]}
    assert [one["port"] for one in operator["ports"]] == ["http", "lora-agent"]
    (peer,) = operator["from"]
    assert peer["namespaceSelector"]["matchLabels"] == {"kubernetes.io/metadata.name": "lora-operator-system"}


def test_who_scrapes_agents_reaches_nothing_else(tmp_path: Path) -> None:
    prometheus = {"podSelector": {"matchLabels": {"app": "prometheus"}}}
    values = {"models": [LLAMA], "networkPolicy": {"metricsFrom": [prometheus]}}
    *_, scraped = only(template(PODS, tmp_path, values), "NetworkPolicy")["spec"]["ingress"]
    assert scraped == {"from": [prometheus], "ports": [{"port": "lora-agent"}]}


def test_routers_and_the_api_server_are_let_in_where_that_is_chosen_and_not_before(tmp_path: Path) -> None:
    models = [LLAMA]
    assert len(only(template(PODS, tmp_path, {"models": models}), "NetworkPolicy")["spec"]["ingress"]) == 2
    block = {"ipBlock": {"cidr": "10.0.0.0/24"}}
    policy = {"routers": True, "apiServer": [block]}
    objects = template(PODS, tmp_path, {"models": models, "networkPolicy": policy})
    _, routers, proxied, _ = only(objects, "NetworkPolicy")["spec"]["ingress"]
    assert [one["podSelector"]["matchLabels"]["app.kubernetes.io/component"] for one in routers["from"]] == ["router"]
    assert routers["ports"] == [{"port": "http"}]
    assert proxied == {"from": [block], "ports": [{"port": "http"}, {"port": "lora-agent"}]}


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ({"model": "m"}, ["models/0", "missing property 'name'"]),
        (LLAMA | {"loraConfig": {"maxLoraRank": 33}}, ["maxLoraRank", "must be one of"]),
        (LLAMA | {"loraConfig": {"memory": "4 GB"}}, ["memory", "does not match pattern"]),
        (LLAMA | {"loraConfig": {"maxLora": 4}}, ["loraConfig", "maxLora", "not allowed"]),
        (LLAMA | {"loraConfig": {"maxLoras": 8, "maxCpuLoras": 4}}, ["model llama", "must be at least maxLoras (8)"]),
        (LLAMA | {"replicas": -1}, ["replicas", "minimum"]),
    ],
)
def test_wrong_models_are_refused_with_a_word_on_what_is_wrong(
    tmp_path: Path, model: dict[str, Any], says: list[str]
) -> None:
    with pytest.raises(HelmError) as refused:
        template(PODS, tmp_path, {"models": [model]})
    assert [word for word in says if word not in str(refused.value)] == []
