"""The plain manifests give the operator what it needs and nothing more."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest
import yaml

from lora_operator.api.v1alpha1 import KIND, parse
from lora_operator.settings.operator import add_arguments, from_arguments

ROOT = Path(__file__).parents[2]
INSTALL = ROOT / "manifests" / "install"
SAMPLES = ROOT / "manifests" / "samples"


def objects(folder: Path) -> list[dict[str, Any]]:
    return [one for path in sorted(folder.glob("*.yaml")) for one in yaml.safe_load_all(path.read_text()) if one]


def the(kind: str, name: str = "lora-operator") -> dict[str, Any]:
    (found,) = [one for one in objects(INSTALL) if one["kind"] == kind and one["metadata"]["name"] == name]
    return found


def test_the_operators_role_has_exactly_these_rights() -> None:
    rights = {
        f"{resource}.{group}".rstrip("."): set(rule["verbs"])
        for rule in the("ClusterRole", "lora-operator.lora-operator-system")["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }
    assert rights == {
        "loraadapters.production-stack.vllm-project": {"list", "watch", "patch"},
        "loraadapters/status.production-stack.vllm-project": {"patch"},
        "loraendpoints.production-stack.vllm-project": {
            "list",
            "watch",
            "create",
            "patch",
        },  # server-side apply creates
        "pods": {"list", "watch", "patch"},
        "pods/status": {"patch"},
        "nodes": {"get"},
        "configmaps": {"get"},
        "events": {"create"},
    }


def test_the_pod_is_as_restricted_as_can_be() -> None:
    pod = the("Deployment")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["resources"]["limits"]["memory"]


def test_the_command_line_is_one_that_the_operator_takes() -> None:
    (container,) = the("Deployment")["spec"]["template"]["spec"]["containers"]
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    settings = from_arguments(parser.parse_args(container["args"]), {})
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {
        "metrics": settings.metrics_port, "health": settings.health_port, "router": settings.router_port,
    }  # fmt: skip
    assert str(settings.adapter_root) in [mount["mountPath"] for mount in container["volumeMounts"]]


def test_operators_that_stand_by_may_write_one_kind_of_object_in_their_own_namespace() -> None:
    (rule,) = the("Role")["rules"]
    assert (rule["resources"], set(rule["verbs"])) == (["leases"], {"get", "create", "update"})
    assert the("Role")["metadata"]["namespace"] == "lora-operator-system"
    (container,) = the("Deployment")["spec"]["template"]["spec"]["containers"]
    assert {item["name"] for item in container["env"]} == {"POD_NAME", "POD_NAMESPACE"}


def test_the_record_of_requests_is_the_one_object_that_operator_and_routers_change_together() -> None:
    assert "data" not in the("ConfigMap", "lora-operator-requests"), "an upgrade would throw away what was asked for"
    verbs = {"lora-operator-requests": {"get", "watch", "patch"}, "lora-operator-router-requests": {"get", "patch"}}
    for name, wanted in verbs.items():
        (rule,) = the("Role", name)["rules"]
        assert (rule["resources"], rule["resourceNames"]) == (["configmaps"], ["lora-operator-requests"])
        assert set(rule["verbs"]) == wanted


@pytest.mark.parametrize(
    "sample", [one for one in objects(SAMPLES) if one["kind"] == KIND], ids=lambda one: one["metadata"]["name"]
)
def test_the_operator_reads_every_sample(sample: dict[str, Any]) -> None:
    parse(sample)
