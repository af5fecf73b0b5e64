"""The chart of vLLM pods: what makes them, where the model is kept, what they ask of a node, and how they end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from e2e.controlplane.errors import HelmError
from lora_operator.informers.pod_description import PodDefaults, describe
from tests.helm.charts import PODS, container, only, template

LLAMA = {"name": "llama", "model": "meta-llama/Llama-3.1-8B-Instruct"}
CACHE = {"name": "model-cache", "mountPath": "/model-cache"}


def rendered(tmp_path: Path, kind: str = "StatefulSet", **model: Any) -> dict[str, Any]:
    return only(template(PODS, tmp_path, {"models": [LLAMA | model]}), kind)


def engine_of(tmp_path: Path, **model: Any) -> dict[str, Any]:
    return container(rendered(tmp_path, **model), "vllm")


def spec_of(workload: dict[str, Any]) -> dict[str, Any]:
    return dict(workload["spec"]["template"]["spec"])


def test_a_statefulset_names_a_headless_service_and_requests_go_to_another(tmp_path: Path) -> None:
    objects = template(PODS, tmp_path, {"models": [LLAMA]})
    headless, service = only(objects, "Service", "vllm-llama-headless"), only(objects, "Service", "vllm-llama")
    assert only(objects, "StatefulSet")["spec"]["serviceName"] == headless["metadata"]["name"]
    assert (headless["spec"]["clusterIP"], headless["spec"]["publishNotReadyAddresses"]) == ("None", True)
    assert "clusterIP" not in service["spec"]
    assert headless["spec"]["selector"] == service["spec"]["selector"]


def test_a_deployment_makes_the_pods_where_that_is_chosen(tmp_path: Path) -> None:
    strategy = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}
    objects = template(
        PODS, tmp_path, {"models": [LLAMA | {"workload": "Deployment", "updateStrategy": strategy, "replicas": 2}]}
    )
    made = only(objects, "Deployment")
    assert (made["spec"]["strategy"], made["spec"]["replicas"]) == (strategy, 2)
    assert "serviceName" not in made["spec"] and "volumeClaimTemplates" not in made["spec"]
    assert [one["metadata"]["name"] for one in objects if one["kind"] == "Service"] == ["vllm-llama"]
    assert not [one for one in objects if one["kind"] == "StatefulSet"]
    assert spec_of(made) == spec_of(rendered(tmp_path))


def test_an_autoscalers_replicas_are_left_to_it(tmp_path: Path) -> None:
    objects = template(PODS, tmp_path, {"models": [LLAMA | {"autoscaled": True}]})
    assert "replicas" not in only(objects, "StatefulSet")["spec"]
    assert only(objects, "PodDisruptionBudget")["spec"]["maxUnavailable"] == 1
    assert rendered(tmp_path)["spec"]["replicas"] == 1


def test_a_restarted_container_finds_the_model_where_it_was(tmp_path: Path) -> None:
    made = rendered(tmp_path)
    assert {"name": "model-cache", "emptyDir": {}} in spec_of(made)["volumes"]
    engine = container(made, "vllm")
    assert CACHE in engine["volumeMounts"] and {"name": "HF_HOME", "value": "/model-cache"} in engine["env"]
    assert "volumeClaimTemplates" not in made["spec"], "a cluster may have no default StorageClass"


def test_each_pod_of_a_statefulset_may_have_a_claim_for_the_model(tmp_path: Path) -> None:
    cache = {"size": "200Gi", "storageClassName": "fast", "keep": False}
    spec = rendered(tmp_path, modelCache=cache)["spec"]
    (claim,) = spec["volumeClaimTemplates"]
    assert claim["metadata"]["name"] == "model-cache"
    assert claim["spec"] == {
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": "fast",
        "resources": {"requests": {"storage": "200Gi"}},
    }
    assert spec["persistentVolumeClaimRetentionPolicy"] == {"whenDeleted": "Delete", "whenScaled": "Retain"}
    pod = spec["template"]["spec"]
    assert "model-cache" not in [one["name"] for one in pod["volumes"]]
    assert CACHE in pod["containers"][0]["volumeMounts"]


def test_or_all_pods_may_share_one(tmp_path: Path) -> None:
    for workload in ("StatefulSet", "Deployment"):
        made = rendered(tmp_path, workload, workload=workload, modelCache={"existingClaim": "models", "size": "9Gi"})
        volume = {"name": "model-cache", "persistentVolumeClaim": {"claimName": "models"}}
        assert volume in spec_of(made)["volumes"]
        assert "volumeClaimTemplates" not in made["spec"]
    none = rendered(tmp_path, modelCache={"enabled": False})
    assert "model-cache" not in str(none)
    with pytest.raises(HelmError, match=r"model llama: the pods of a Deployment have no claims of their own"):
        rendered(tmp_path, "Deployment", workload="Deployment", modelCache={"size": "9Gi"})


def test_a_pod_asks_for_what_it_takes_of_a_node(tmp_path: Path) -> None:
    made = rendered(tmp_path)
    for each in spec_of(made)["containers"]:
        assert set(each["resources"]["requests"]) == {"cpu", "memory", "ephemeral-storage"}, each["name"]
    nodes = only(template(PODS, tmp_path, {"models": [LLAMA], "delivery": {"kind": "nodeDisk"}}), "StatefulSet")
    assert [set(one["resources"]["requests"]) for one in spec_of(nodes)["initContainers"]] == [{"cpu", "memory"}]
    (shm,) = [one for one in spec_of(made)["volumes"] if one["name"] == "shm"]
    assert shm["emptyDir"]["sizeLimit"] == "2Gi"


@pytest.mark.parametrize(
    ("model", "limits"),
    [
        ({}, {"nvidia.com/gpu": "1"}),
        ({"gpus": 2, "gpuResource": "amd.com/gpu"}, {"amd.com/gpu": "2"}),
        ({"gpus": 0}, None),
        ({"gpus": 0, "resources": {"limits": {"memory": "8Gi"}}}, {"memory": "8Gi"}),
        ({"resources": {"limits": {"nvidia.com/gpu": "4"}}}, {"nvidia.com/gpu": "4"}),
    ],
)
def test_a_gpu_is_asked_for_unless_there_is_none(
    tmp_path: Path, model: dict[str, Any], limits: dict[str, str] | None
) -> None:
    assert engine_of(tmp_path, **model)["resources"].get("limits") == limits


def test_a_pod_that_ends_lets_requests_end_first(tmp_path: Path) -> None:
    made = rendered(tmp_path, shutdown={"preStopSeconds": 5, "timeoutSeconds": 100}, terminationGracePeriodSeconds=110)
    engine = container(made, "vllm")
    assert engine["lifecycle"] == {"preStop": {"sleep": {"seconds": 5}}}
    assert "--shutdown-timeout=100" in engine["args"]
    assert spec_of(made)["terminationGracePeriodSeconds"] == 110
    default = rendered(tmp_path)
    assert "--shutdown-timeout=45" in container(default, "vllm")["args"]
    off = engine_of(tmp_path, shutdown={"preStopSeconds": 0, "timeoutSeconds": 0}, terminationGracePeriodSeconds=0)
    assert "lifecycle" not in off and "--shutdown-timeout" not in str(off)
    own = {"preStop": {"exec": {"command": ["sleep", "3"]}}}
    assert engine_of(tmp_path, lifecycle=own)["lifecycle"] == own
    with pytest.raises(HelmError, match=r"terminationGracePeriodSeconds \(30\) must be more than"):
        rendered(tmp_path, terminationGracePeriodSeconds=30)


@pytest.mark.parametrize(
    ("image", "new"),
    [
        ("vllm/vllm-openai:v0.32.0", True),
        ("vllm/vllm-openai:v0.18.0-x86_64", True),
        ("registry:5000/vllm", True),
        ("vllm/vllm-openai@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", True),
        ("registry:5000/vllm:nightly", True),
        ("registry:5000/my-vllm:0.1.0", True),
        ("lmcache/vllm-openai:v0.3.9", True),
        ("vllm/vllm-openai:v0.17.1", False),
        ("vllm/vllm-openai-cpu:v0.17.0-x86_64", False),
        ("registry:5000/vllm/vllm-openai:0.8.5.post1@sha256:e3b0c442", False),
    ],
)
def test_flags_are_those_of_the_release_that_the_image_names(tmp_path: Path, image: str, new: bool) -> None:
    made = rendered(tmp_path, image=image)
    arguments = container(made, "vllm")["args"]
    assert arguments[0] == (LLAMA["model"] if new else f"--model={LLAMA['model']}")
    assert ("--shutdown-timeout=45" in arguments) == new
    pod = {"metadata": {"name": "p", "namespace": "n", **made["spec"]["template"]["metadata"], "annotations": {}}}
    seen = describe(pod | {"spec": spec_of(made)}, PodDefaults())
    assert (seen.base_models, seen.lora_disabled) == ((LLAMA["model"],), None)


def test_pods_are_spread_over_nodes_where_that_is_possible(tmp_path: Path) -> None:
    made = rendered(tmp_path)
    (rule,) = spec_of(made)["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    term = rule["podAffinityTerm"]
    assert (term["topologyKey"], term["labelSelector"]) == ("kubernetes.io/hostname", made["spec"]["selector"])
    own = {"nodeAffinity": {}}
    assert spec_of(rendered(tmp_path, affinity=own))["affinity"] == own


@pytest.mark.parametrize(
    ("model", "delivery", "lost"),
    [
        ({}, {}, "shm,model-cache,adapters"),
        ({"modelCache": {"size": "9Gi"}}, {"kind": "nodeDisk"}, "shm"),
        ({"loraConfig": {"enabled": False}}, {}, "shm,model-cache"),
    ],
)
def test_a_cluster_autoscaler_may_move_pods_with_what_is_fetched_again(
    tmp_path: Path, model: dict[str, Any], delivery: dict[str, Any], lost: str
) -> None:
    made = only(template(PODS, tmp_path, {"models": [LLAMA | model], "delivery": delivery}), "StatefulSet")
    annotations = made["spec"]["template"]["metadata"]["annotations"]
    assert annotations["cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes"] == lost
    pod = spec_of(made)
    named = {one["name"] for one in pod["volumes"] if "emptyDir" in one}
    assert named == set(lost.split(","))


def test_containers_of_ones_own_stand_beside_ours(tmp_path: Path) -> None:
    first, beside = {"name": "first", "image": "a"}, {"name": "beside", "image": "b"}
    values = {
        "models": [LLAMA | {"initContainers": [first], "extraContainers": [beside], "command": ["vllm", "serve"]}],
        "delivery": {"kind": "nodeDisk"},
    }
    pod = spec_of(only(template(PODS, tmp_path, values), "StatefulSet"))
    assert [one["name"] for one in pod["initContainers"]] == ["own-disk", "first"]
    assert [one["name"] for one in pod["containers"]] == ["vllm", "agent", "beside"]
    assert pod["containers"][0]["command"] == ["vllm", "serve"]
    assert "command" not in engine_of(tmp_path)


def test_a_variable_of_ones_own_counts_instead_of_ours(tmp_path: Path) -> None:
    named = engine_of(tmp_path, env=[{"name": "HF_HOME", "value": "/x"}])["env"]
    assert [one for one in named if one["name"] == "HF_HOME"] == [{"name": "HF_HOME", "value": "/x"}]


def test_no_service_sets_variables_that_vllm_reads(tmp_path: Path) -> None:
    assert spec_of(rendered(tmp_path))["enableServiceLinks"] is False


def test_large_volumes_are_not_gone_through_at_every_start(tmp_path: Path) -> None:
    security = spec_of(rendered(tmp_path))["securityContext"]
    assert (security["fsGroup"], security["fsGroupChangePolicy"]) == (65532, "OnRootMismatch")


def test_on_openshift_users_and_groups_are_left_to_the_cluster(tmp_path: Path) -> None:
    objects = template(PODS, tmp_path, {"models": [LLAMA]}, "--api-versions", "security.openshift.io/v1")
    made = only(objects, "StatefulSet")
    assert "fsGroup" not in spec_of(made)["securityContext"]
    agent = container(made, "agent")["securityContext"]
    assert agent["runAsNonRoot"] and "runAsUser" not in agent and "runAsGroup" not in agent


def test_agents_go_by_a_proxy_and_believe_a_private_authority(tmp_path: Path) -> None:
    proxy = {"name": "HTTPS_PROXY", "value": "http://proxy.example.com:3128"}
    agent = {"env": [proxy], "ca": {"configMap": "my-authority", "key": "bundle.pem"}}
    made = only(template(PODS, tmp_path, {"models": [LLAMA], "delivery": {"agent": agent}}), "StatefulSet")
    seen = container(made, "agent")
    assert proxy in seen["env"] and "--ca-file=/etc/lora-ca/bundle.pem" in seen["args"]
    assert {"name": "ca", "mountPath": "/etc/lora-ca", "readOnly": True} in seen["volumeMounts"]
    assert {"name": "ca", "configMap": {"name": "my-authority"}} in spec_of(made)["volumes"]
    assert "--ca-file" not in str(rendered(tmp_path))


@pytest.mark.parametrize(
    ("values", "denied"),
    [({}, None), ({"hardened": True}, "--deny-private"),
     ({"hardened": True, "delivery": {"agent": {"settings": {"denyPrivate": False}}}}, "--no-deny-private")],
)  # fmt: skip
def test_hardened_agents_fetch_from_public_addresses_only(
    tmp_path: Path, values: dict[str, Any], denied: str | None
) -> None:
    agent = container(only(template(PODS, tmp_path, {"models": [LLAMA], **values}), "StatefulSet"), "agent")
    assert [one for one in agent["args"] if "deny-private" in one] == ([denied] if denied else [])


def test_every_object_has_the_labels_that_tools_look_for(tmp_path: Path) -> None:
    objects = template(PODS, tmp_path, {"models": [LLAMA | {"replicas": 2}]})
    wanted = {"app.kubernetes.io/name", "app.kubernetes.io/instance", "app.kubernetes.io/managed-by", "helm.sh/chart"}
    assert [one["metadata"]["name"] for one in objects if not wanted <= set(one["metadata"]["labels"])] == []
    labels = only(objects, "StatefulSet")["spec"]["template"]["metadata"]["labels"]
    assert "helm.sh/chart" not in labels, "a new chart alone is no reason to replace pods"
