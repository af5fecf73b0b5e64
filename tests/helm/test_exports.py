"""What the operator exports by choice: which flags and rights the chart gives for it, and how it is taken back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from e2e.controlplane import ControlPlane
from e2e.controlplane.helm import run_helm
from lora_operator.kube.preconditions import Right, rights_to_act
from lora_operator.manager.builders import rights_to_export
from lora_operator.settings.operator import Settings
from tests.helm.charts import OPERATOR, container, only, template

SYSTEM = "lora-operator-system"


@pytest.mark.parametrize(("services", "maps"), [("none", "none"), ("ClusterIP", "none"), ("remove", "keep")])
def test_what_is_exported_takes_a_flag_and_no_more_rights_than_are_asked_for(
    tmp_path: Path, services: str, maps: str
) -> None:
    values = {
        "adapterServices": services,
        "baseModelMaps": maps,
        "watchNamespaces": ["team"],
        "router": {"inOperator": False},
    }
    objects = template(OPERATOR, tmp_path, values)
    role = next(one for one in objects if one["kind"] == "Role" and one["metadata"].get("namespace") == "team")
    given = {
        Right(verb, resource, group, "team")
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
        if not rule.get("resourceNames")
    }
    exported = rights_to_export(Settings(adapter_services=services, base_model_maps=maps, namespaces=("team",)))
    assert given == {right for right in rights_to_act(["team"], SYSTEM, "") if not right.name} | set(exported)
    arguments = container(only(objects, "Deployment", "lora-operator"), "operator")["args"]
    flags = [one for one in arguments if one.startswith(("--adapter-services", "--base-model-maps", "--router-port"))]
    port = "0" if services == maps == "none" else "8082"
    wanted = [f"--router-port={port}"]
    wanted += [f"--adapter-services={services}"] if services != "none" else []
    wanted += [f"--base-model-maps={maps}"] if maps != "none" else []
    assert flags == wanted


@pytest.mark.cluster
def test_what_is_switched_off_is_removed_by_the_next_upgrade_and_forgotten_by_the_one_after(
    control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    file = tmp_path / "values.yaml"
    file.write_text(json.dumps({"image": {"repository": "x"}, "watchNamespaces": [namespace]}))
    command = ("lora-operator", str(OPERATOR), "--namespace", namespace, "--values", str(file))
    arguments = (
        "template",
        *command,
        "--is-upgrade",
        "--dry-run=server",
        "--kubeconfig",
        str(control_plane.kubeconfig),
    )
    found = []
    for value in ("ClusterIP", "none", "none"):
        objects = [one for one in yaml.safe_load_all(run_helm(*arguments, "--set", f"adapterServices={value}")) if one]
        flags = container(only(objects, "Deployment", "lora-operator"), "operator")["args"]
        found.append([one for one in flags if one.startswith("--adapter-services")])
        roles = [one for one in objects if one["kind"] == "Role" and one["metadata"]["name"] == "lora-operator"]
        for role in roles:
            control_plane.kubectl("apply", "-f", "-", input=json.dumps(role))
    assert found == [["--adapter-services=ClusterIP"], ["--adapter-services=remove"], []]
