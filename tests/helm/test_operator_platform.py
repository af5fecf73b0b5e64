"""What the operator's chart does for a platform: users and groups, zones, priority, authorities, tenants, labels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.helm.charts import OPERATOR, ROOT, SYSTEM, container, only, template
from tests.helm.test_operator_chart import settings_of

CRD = ROOT / "crds" / "loraadapters.production-stack.vllm-project.yaml"
WORKLOADS = ("Deployment", "Job")


def pods_of(objects: list[dict[str, Any]]) -> list[dict[str, Any]]:
    made = [one["spec"]["template"]["spec"] for one in objects if one["kind"] in WORKLOADS]
    return [*made, only(objects, "Pod")["spec"]]


def test_nothing_waits_for_storage_that_a_cluster_may_not_have(tmp_path: Path) -> None:
    objects = template(OPERATOR, tmp_path)
    assert not [one for one in objects if one["kind"] == "PersistentVolumeClaim"]
    assert "persistentVolumeClaim" not in json.dumps([one for one in objects if one["kind"] in WORKLOADS])
    shared = template(OPERATOR, tmp_path, {"adapterVolume": {"enabled": True}})
    assert only(shared, "PersistentVolumeClaim")["spec"]["accessModes"] == ["ReadWriteMany"]


def test_on_openshift_users_and_groups_are_left_to_the_cluster(tmp_path: Path) -> None:
    for pod in pods_of(template(OPERATOR, tmp_path)):
        assert pod["securityContext"] | {"runAsUser": 65532, "fsGroup": 65532} == pod["securityContext"]
    for pod in pods_of(template(OPERATOR, tmp_path, None, "--api-versions", "security.openshift.io/v1")):
        assert pod["securityContext"] == {
            "runAsNonRoot": True,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        }


def test_users_and_groups_may_be_chosen(tmp_path: Path) -> None:
    values = {"podSecurityContext": {"runAsUser": 1000, "fsGroup": None}}
    for pod in pods_of(template(OPERATOR, tmp_path, values)):
        assert pod["securityContext"]["runAsUser"] == 1000 and "fsGroup" not in pod["securityContext"]


def test_replicas_are_spread_over_zones_where_that_is_possible(tmp_path: Path) -> None:
    for name in ("lora-operator", "lora-operator-router"):
        made = only(template(OPERATOR, tmp_path), "Deployment", name)
        (rule,) = made["spec"]["template"]["spec"]["topologySpreadConstraints"]
        assert (rule["topologyKey"], rule["whenUnsatisfiable"]) == ("topology.kubernetes.io/zone", "ScheduleAnyway")
        assert rule["labelSelector"] == made["spec"]["selector"]


def test_the_lease_is_renewed_with_the_priority_of_leader_elections(tmp_path: Path) -> None:
    schema = only(template(OPERATOR, tmp_path), "FlowSchema")
    assert schema["spec"]["priorityLevelConfiguration"] == {"name": "leader-election"}
    (rule,) = schema["spec"]["rules"]
    (subject,), (resources,) = rule["subjects"], rule["resourceRules"]
    assert subject["serviceAccount"] == {"name": "lora-operator", "namespace": SYSTEM}
    assert (resources["resources"], resources["namespaces"]) == (["leases"], [SYSTEM])
    off = template(OPERATOR, tmp_path, {"flowSchema": {"enabled": False}})
    assert not [one for one in off if one["kind"] == "FlowSchema"]


def test_an_authority_of_ones_own_is_a_configmap(tmp_path: Path) -> None:
    objects = template(OPERATOR, tmp_path, {"ca": {"configMap": "my-authority", "key": "bundle.pem"}})
    made = only(objects, "Deployment", "lora-operator")
    operator = container(made, "operator")
    assert "--ca-file=/etc/lora-ca/bundle.pem" in operator["args"]
    assert {"name": "ca", "mountPath": "/etc/lora-ca", "readOnly": True} in operator["volumeMounts"]
    volumes = made["spec"]["template"]["spec"]["volumes"]
    assert {"name": "ca", "configMap": {"name": "my-authority"}} in volumes
    assert "--ca-file" not in json.dumps(template(OPERATOR, tmp_path))


@pytest.mark.parametrize(
    ("values", "roots"),
    [
        ({}, ("/sources",)),
        ({"volumeMounts": [{"name": "nfs", "mountPath": "/models"}], "volumes": [{"name": "nfs"}]}, ("/models",)),
        ({"settings": {"localRoots": ["/a", "/b"]}}, ("/a", "/b")),
    ],
)
def test_a_local_source_is_where_something_was_mounted_for_it_and_nowhere_else(
    tmp_path: Path, values: dict[str, Any], roots: tuple[str, ...]
) -> None:
    assert settings_of(template(OPERATOR, tmp_path, values)).local_roots == roots


def test_hardened_it_is_closed_until_somebody_is_named(tmp_path: Path) -> None:
    values: dict[str, Any] = {"hardened": True, "router": {"picker": {"enabled": True}}}
    objects = template(OPERATOR, tmp_path, values)
    assert settings_of(objects).deny_private
    (edit,) = [one for one in objects if one["kind"] == "ClusterRole" and one["metadata"]["name"].endswith("-edit")]
    assert [label for label in edit["metadata"]["labels"] if "aggregate" in label] == [
        "rbac.authorization.k8s.io/aggregate-to-admin"
    ]
    inside = [{"podSelector": {}}]
    rules = [rule for one in objects if one["kind"] == "NetworkPolicy" for rule in one["spec"]["ingress"]]
    assert {rule["ports"][0]["port"]: rule.get("from") for rule in rules} == {
        "metrics": inside, "health": None, "router": inside, "http": inside, "picker": inside,
        "webhook": None,
    }  # fmt: skip
    gateway, prometheus = ({"podSelector": {"matchLabels": {"app": app}}} for app in ("gateway", "prometheus"))
    values["router"] |= {"clients": [gateway]}
    values["networkPolicy"] = {"metricsFrom": [prometheus]}
    values["settings"] = {"denyPrivate": False}
    opened = template(OPERATOR, tmp_path, values)
    policy = only(opened, "NetworkPolicy", "lora-operator-router")
    assert policy["spec"]["ingress"][0]["from"] == [gateway, prometheus]
    assert not settings_of(opened).deny_private


def test_who_may_edit_a_namespace_may_edit_its_adapters_unless_it_is_hardened(tmp_path: Path) -> None:
    (edit,) = [
        one
        for one in template(OPERATOR, tmp_path)
        if one["kind"] == "ClusterRole" and one["metadata"]["name"].endswith("-edit")
    ]
    assert edit["metadata"]["labels"]["rbac.authorization.k8s.io/aggregate-to-edit"] == "true"


def test_every_container_says_what_it_takes_so_that_quotas_let_it_in(tmp_path: Path) -> None:
    for pod in pods_of(template(OPERATOR, tmp_path)):
        for each in pod["containers"]:
            assert set(each["resources"]["requests"]) == {"cpu", "memory"}, each["name"]


def test_no_service_sets_variables_that_are_settings(tmp_path: Path) -> None:
    made = [one for one in template(OPERATOR, tmp_path) if one["kind"] == "Deployment"]
    assert [one["spec"]["template"]["spec"]["enableServiceLinks"] for one in made] == [False, False]


def test_every_object_has_the_labels_that_tools_look_for(tmp_path: Path) -> None:
    objects = template(OPERATOR, tmp_path, None, "--values", str(OPERATOR / "ci" / "everything.yaml"))
    wanted = {
        "app.kubernetes.io/name": "lora-operator",
        "app.kubernetes.io/instance": "lora-operator",
        "app.kubernetes.io/managed-by": "Helm",
        "helm.sh/chart": "lora-operator-0.1.0",
    }
    kept = [one for one in objects if not any("hook" in key for key in one["metadata"].get("annotations") or {})]
    assert len(kept) > 20
    assert [one["metadata"]["name"] for one in kept if not wanted.items() <= one["metadata"]["labels"].items()] == []


def test_kube_state_metrics_reads_fields_that_there_are(tmp_path: Path) -> None:
    values = {"metrics": {"kubeStateMetrics": {"enabled": True}}}
    (text,) = only(template(OPERATOR, tmp_path, values), "ConfigMap", "lora-operator-kube-state-metrics")[
        "data"
    ].values()
    (resource,) = yaml.safe_load(text)["spec"]["resources"]
    (version,) = yaml.safe_load(CRD.read_text())["spec"]["versions"]
    schema = version["schema"]["openAPIV3Schema"]

    def at(path: list[str], below: dict[str, Any] = schema) -> dict[str, Any]:
        for step in path:
            below = below["properties"][step]
        return below

    assert resource["groupVersionKind"] == {
        "group": "production-stack.vllm-project", "version": version["name"], "kind": "LoraAdapter",
    }  # fmt: skip
    for metric in resource["metrics"]:
        ((_, how),) = ((key, value) for key, value in metric["each"].items() if key != "type")
        below = at(how.get("path", []))
        below = below.get("items", below)
        for path in [*how.get("labelsFromPath", {}).values(), *([how["valueFrom"]] if "valueFrom" in how else [])]:
            assert at(path, below), (metric["name"], path)
    (phases,) = [one["each"]["stateSet"]["list"] for one in resource["metrics"] if one["each"]["type"] == "StateSet"]
    assert phases == at(["status", "phase"])["enum"]
