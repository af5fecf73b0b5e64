"""The chart runs the user library where it is chosen, with the rights that it needs and no others."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest

from e2e.controlplane.helm import HelmError
from helm import render
from lora_library.settings import ENVIRONMENT_PREFIX, LibrarySettings, from_arguments
from lora_operator.settings.options import add_options
from tests.helm.charts import OPERATOR, container, only, template
from tests.helm.chosen import all_settings, as_chosen

NAME = "lora-operator-library"
LEAST = {"store": "s3://loras", "tokenReview": True}


def rendered(tmp_path: Path, **library: Any) -> list[dict[str, Any]]:
    return template(OPERATOR, tmp_path, {"library": {"enabled": True, "settings": LEAST} | library})


def of_library(objects: list[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for each in objects:
        if each["metadata"]["name"].startswith(NAME):
            found.setdefault(each["kind"], []).append(each)
    return found


def test_every_setting_can_be_chosen(tmp_path: Path) -> None:
    chosen = all_settings(LibrarySettings, render.LIBRARY_GIVEN)
    objects = rendered(tmp_path, settings=chosen, port=9999, metricsPort=9998, operatorSecret="reader", namespace="a")
    parser = argparse.ArgumentParser()
    add_options(parser, LibrarySettings, ENVIRONMENT_PREFIX)
    got = from_arguments(parser.parse_args(container(only(objects, "Deployment", NAME), "library")["args"]), {})
    assert (got.port, got.metrics_port, got.namespace, got.credentials_secret) == (9999, 9998, "a", "reader")
    assert as_chosen(got, LibrarySettings, render.LIBRARY_GIVEN) == chosen


def test_without_it_nothing_of_it_is_there(tmp_path: Path) -> None:
    assert of_library(template(OPERATOR, tmp_path)) == {}


def test_with_sqlite_there_is_one_and_its_database_outlives_a_release(tmp_path: Path) -> None:
    found = of_library(rendered(tmp_path))
    (claim,), (workload,) = found["PersistentVolumeClaim"], found["Deployment"]
    assert claim["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    assert "--work-bytes=20Gi" in container(workload, "library")["args"], (
        "beyond the size of the disk the pod is evicted"
    )
    assert (workload["spec"]["replicas"], workload["spec"]["strategy"]) == (1, {"type": "Recreate"})
    with pytest.raises(HelmError, match="SQLite is for one replica"):
        rendered(tmp_path, replicas=2)


def test_postgresql_is_named_by_a_secret_and_lets_several_run(tmp_path: Path) -> None:
    found = of_library(rendered(tmp_path, replicas=2, database={"secret": "pg"}, storeSecret="s3"))
    assert "PersistentVolumeClaim" not in found and "PodDisruptionBudget" in found
    one = container(found["Deployment"][0], "library")
    reference = {"secretKeyRef": {"name": "pg", "key": "dsn"}}
    assert {"name": "LORA_LIBRARY_DATABASE", "valueFrom": reference} in one["env"]
    assert one["envFrom"] == [{"secretRef": {"name": "s3"}}]


def test_it_may_write_the_adapters_of_one_namespace_and_look_at_tokens_where_it_is_told_to(tmp_path: Path) -> None:
    found = of_library(rendered(tmp_path, namespace="models"))
    (role, uses), (reviews,) = found["Role"], found["ClusterRole"]
    assert role["metadata"]["namespace"] == "models"
    assert role["rules"] == [
        {
            "apiGroups": ["production-stack.vllm-project"],
            "resources": ["loraadapters"],
            "verbs": ["create", "delete", "get", "list", "patch"],
        },
        {"apiGroups": ["production-stack.vllm-project"], "resources": ["loraendpoints"], "verbs": ["list"]},
    ]
    assert uses["rules"] == [
        {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["lora-operator-requests"], "verbs": ["get"]}
    ]
    assert [each["resources"] for each in reviews["rules"]] == [["tokenreviews"]]
    settings = {"store": "/data", "oidcIssuer": "https://a", "oidcAudience": "b"}
    assert "ClusterRole" not in of_library(rendered(tmp_path, settings=settings))


def test_under_the_guard_of_owners_it_may_name_its_users(tmp_path: Path) -> None:
    values = {"library": {"enabled": True, "settings": LEAST}, "ownerGuard": {"enabled": True}}
    role, _ = of_library(template(OPERATOR, tmp_path, values))["Role"]
    assert role["rules"][2:] == [
        {"apiGroups": ["production-stack.vllm-project"], "resources": ["owners"], "verbs": ["use"]}
    ]


def test_without_a_store_it_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HelmError, match=r"library\.settings\.store"):
        rendered(tmp_path, settings={"tokenReview": True})
