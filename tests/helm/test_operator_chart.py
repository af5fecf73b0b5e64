"""The operator's chart gives the operator what its values say, and refuses values that mean nothing."""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from e2e.controlplane.errors import HelmError
from e2e.controlplane.helm import run_helm
from helm import render
from lora_operator.kube.preconditions import Right, rights_to_act, rights_to_answer
from lora_operator.router.settings import RouterSettings
from lora_operator.router.settings import from_arguments as router_settings
from lora_operator.settings.operator import Settings, add_arguments, from_arguments
from lora_operator.settings.options import add_options
from tests.helm.charts import OPERATOR, ROOT, SYSTEM, VALUE_SETS, container, flags, only, template
from tests.helm.chosen import all_settings, as_chosen

OF_NO_NAMESPACE = {
    "ClusterRole", "ClusterRoleBinding", "ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding", "FlowSchema",
}  # fmt: skip


def settings_of(objects: list[dict[str, Any]]) -> Settings:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    return from_arguments(
        parser.parse_args(container(only(objects, "Deployment", "lora-operator"), "operator")["args"]), {}
    )


def test_every_setting_of_the_operator_can_be_chosen(tmp_path: Path) -> None:
    chosen = all_settings(Settings, render.GIVEN)
    schema = json.loads((OPERATOR / "values.schema.json").read_text())["properties"]["settings"]["properties"]
    assert set(chosen) == set(schema)
    got = settings_of(template(OPERATOR, tmp_path, {"settings": chosen}))
    assert as_chosen(got, Settings, render.GIVEN) == chosen


def test_what_the_chart_itself_gives_follows_from_other_values(tmp_path: Path) -> None:
    values = {
        "watchNamespaces": ["a", "b"],
        "metrics": {"port": 9090},
        "health": {"port": 9091},
        "adapterVolume": {"mountPath": "/data"},
    }
    got = settings_of(template(OPERATOR, tmp_path, values))
    assert (got.namespaces, got.metrics_port, got.health_port) == (("a", "b"), 9090, 9091)
    assert (str(got.adapter_root), got.lease_name) == ("/data", "lora-operator")


def test_the_flags_are_those_that_help_explains(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "lora_operator.cli.main", "run", "--help"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    objects = template(OPERATOR, tmp_path, None, "--values", str(OPERATOR / "ci" / "everything.yaml"))
    given = {
        argument.partition("=")[0]
        for argument in container(only(objects, "Deployment", "lora-operator"), "operator")["args"]
    }
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    assert given <= flags(parser)
    assert [flag for flag in given if flag not in told] == []


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"settings": {"polcy": "spread"}}, ["settings", "polcy", "not allowed"]),
        ({"settings": {"policy": "random"}}, ["settings/policy", "'balanced', 'binpack', 'spread'"]),
        ({"settings": {"probeSeconds": -1}}, ["settings/probeSeconds", "minimum"]),
        ({"settings": {"cacheBytes": "50 gigabytes"}}, ["settings/cacheBytes", "does not match pattern"]),
        ({"settings": {"adapterRoot": "/x"}}, ["settings", "adapterRoot", "not allowed"]),
        ({"replicas": "two"}, ["replicas", "want integer"]),
        ({"replica": 2}, ["replica", "not allowed"]),
        ({"watchNamespaces": ["Team_A"]}, ["watchNamespaces/0", "does not match pattern"]),
        ({"watchNamespaces": "team-a"}, ["watchNamespaces", "want array"]),
        ({"credentialSecrets": [{"name": "x"}]}, ["credentialSecrets/0", "missing property 'namespace'"]),
        ({"adapterVolume": {"accessModes": ["RWX"]}}, ["accessModes/0", "ReadWriteMany"]),
    ],
)
def test_wrong_values_are_refused_with_a_word_on_what_is_wrong(
    tmp_path: Path, values: dict[str, Any], says: list[str]
) -> None:
    with pytest.raises(HelmError) as refused:
        template(OPERATOR, tmp_path, values)
    assert [word for word in says if word not in str(refused.value)] == []


def test_a_kubernetes_without_admission_policies_is_refused() -> None:
    with pytest.raises(HelmError, match=r"requires kubeVersion: >=1\.30"):
        run_helm("template", "x", str(OPERATOR), "--kube-version", "1.29.0")


def test_held_to_namespaces_it_has_rights_in_no_other(tmp_path: Path) -> None:
    objects = template(OPERATOR, tmp_path, None, "--values", str(OPERATOR / "ci" / "narrow.yaml"))
    assert [one["metadata"]["name"] for one in objects if one["kind"].startswith("ClusterRole")] == []
    roles = {(one["metadata"]["namespace"], one["metadata"]["name"]) for one in objects if one["kind"] == "Role"}
    assert roles == {
        ("team-a", "lora-operator"),
        ("team-b", "lora-operator"),
        ("team-a", "lora-operator-router"),
        ("team-b", "lora-operator-router"),
        ("team-a", "lora-operator-source-credentials"),
        ("team-a", "lora-operator-vllm-api-key"),
        ("team-b", "lora-operator-source-credentials"),
        (SYSTEM, "lora-operator"),
        (SYSTEM, "lora-operator-let-go"),
        (SYSTEM, "lora-operator-requests"),
        (SYSTEM, "lora-operator-router-requests"),
    }


@pytest.mark.parametrize("values", VALUE_SETS, ids=lambda path: f"{path.parent.parent.name}-{path.stem}")
def test_a_right_on_secrets_is_always_one_for_a_single_secret(tmp_path: Path, values: Path) -> None:
    objects = template(values.parent.parent, tmp_path, None, "--values", str(values))
    rules = [rule for one in objects if "Role" in one["kind"] for rule in one.get("rules", [])]
    about_secrets = [rule for rule in rules if "secrets" in rule["resources"]]
    assert [rule for rule in about_secrets if len(rule.get("resourceNames", [])) != 1 or rule["verbs"] != ["get"]] == []
    assert not [rule for rule in rules if "*" in (*rule["apiGroups"], *rule["resources"], *rule["verbs"])]


def tokens(objects: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [one for one in objects if one["kind"] == "Secret" and one["metadata"]["name"] == "lora-agent-token"]


def test_each_namespace_has_a_token_of_its_own_which_the_operator_knows(tmp_path: Path) -> None:
    objects = template(OPERATOR, tmp_path, {"agentToken": {"namespaces": ["a", "b"]}})
    secrets = {one["metadata"]["namespace"]: one["data"] for one in tokens(objects)}
    assert secrets == {
        "a": {"token": secrets[SYSTEM]["a"]},
        "b": {"token": secrets[SYSTEM]["b"]},
        SYSTEM: secrets[SYSTEM],
    }
    assert set(secrets[SYSTEM]) == {"a", "b"} and secrets[SYSTEM]["a"] != secrets[SYSTEM]["b"]


def test_agents_beside_the_operator_have_a_token_too(tmp_path: Path) -> None:
    (secret,) = tokens(template(OPERATOR, tmp_path, {"agentToken": {"namespaces": [SYSTEM]}}))
    assert secret["data"] == {SYSTEM: secret["data"]["token"], "token": secret["data"]["token"]}


def test_every_setting_of_the_router_can_be_chosen(tmp_path: Path) -> None:
    chosen = all_settings(RouterSettings, render.ROUTER_GIVEN)
    chosen |= {"pickerNamespace": "a", "routingWeights": "own-resident=3"}  # one that is watched, one that there is
    values = {"router": {"settings": chosen, "port": 9999}, "watchNamespaces": ["a", "b"]}
    arguments = container(only(template(OPERATOR, tmp_path, values), "Deployment", "lora-operator-router"), "router")[
        "args"
    ]
    parser = argparse.ArgumentParser()
    add_options(parser, RouterSettings, "LORA_ROUTER_")
    got = router_settings(parser.parse_args(arguments), {})
    assert (got.port, got.namespaces) == (9999, ("a", "b"))
    assert as_chosen(got, RouterSettings, render.ROUTER_GIVEN) == chosen


@pytest.mark.parametrize(
    ("router", "leads_to", "port"),
    [
        ({}, "router", "8082"),
        ({"enabled": False}, "operator", "8082"),
        ({"inOperator": False}, "router", "0"),
        ({"enabled": False, "inOperator": False}, None, "0"),
    ],
)
def test_the_service_leads_to_routers_of_their_own_or_else_to_the_operators(
    tmp_path: Path, router: dict[str, Any], leads_to: str | None, port: str
) -> None:
    objects = template(OPERATOR, tmp_path, {"router": router, "metrics": {"serviceMonitor": {"enabled": True}}})
    found = [one for one in objects if (one["kind"], one["metadata"]["name"]) == ("Service", "lora-operator-router")]
    assert [one["spec"]["selector"]["app.kubernetes.io/component"] for one in found] == ([leads_to] if leads_to else [])
    scraped = [one["metadata"]["name"] for one in objects if one["kind"] == "ServiceMonitor"]
    assert scraped == ["lora-operator", *(["lora-operator-router"] if leads_to else [])]
    operator = container(only(objects, "Deployment", "lora-operator"), "operator")
    assert f"--router-port={port}" in operator["args"]
    for one in found:
        pods = only(objects, "Deployment", f"lora-operator{'-router' if leads_to == 'router' else ''}")
        names = {each["name"] for each in container(pods, str(leads_to))["ports"]}
        assert one["spec"]["ports"][0]["targetPort"] in names
        policy = only(objects, "NetworkPolicy", pods["metadata"]["name"])
        let_in = {each["port"] for rule in policy["spec"]["ingress"] for each in rule["ports"]}
        assert one["spec"]["ports"][0]["targetPort"] in let_in


@pytest.mark.parametrize(
    ("router", "ending"),
    [
        ({}, ["router"]),
        ({"enabled": False}, ["operator"]),
        ({"inOperator": False}, ["router"]),
        ({"preStopSeconds": 0}, []),
    ],
)
def test_what_clients_are_led_to_goes_on_answering_for_a_while_when_it_ends(
    tmp_path: Path, router: dict[str, Any], ending: list[str]
) -> None:
    made = [one for one in template(OPERATOR, tmp_path, {"router": router}) if one["kind"] == "Deployment"]
    containers = [one for each in made for one in each["spec"]["template"]["spec"]["containers"]]
    hooks = {one["name"]: one["lifecycle"] for one in containers if "lifecycle" in one}
    assert hooks == {name: {"preStop": {"sleep": {"seconds": 5}}} for name in ending}


@pytest.mark.parametrize("enabled", [True, False])
def test_where_routers_have_named_clients_those_who_scrape_are_let_in_too(tmp_path: Path, enabled: bool) -> None:
    gateway, prometheus = ({"podSelector": {"matchLabels": {"app": app}}} for app in ("gateway", "prometheus"))
    values = {
        "router": {"enabled": enabled, "clients": [gateway]},
        "networkPolicy": {"metricsFrom": [prometheus]},
    }
    policy = only(template(OPERATOR, tmp_path, values), "NetworkPolicy", f"lora-operator{'-router' if enabled else ''}")
    port = "http" if enabled else "router"
    (rule,) = (one for one in policy["spec"]["ingress"] if one["ports"] == [{"port": port}])
    assert rule["from"] == [gateway, prometheus]


@pytest.mark.parametrize("namespaces", [[], ["team-a"]])
def test_what_is_asked_for_at_the_start_is_what_the_chart_always_gives(tmp_path: Path, namespaces: list[str]) -> None:
    objects = template(OPERATOR, tmp_path, {"watchNamespaces": namespaces, "rbac": {"aggregate": False}})
    asked = {
        "lora-operator": rights_to_act(namespaces, SYSTEM, SYSTEM),
        "lora-operator-router": rights_to_answer(namespaces, SYSTEM),
    }
    for account, rights in asked.items():
        given = {
            Right(verb, resource, group, one["metadata"].get("namespace", ""), name)
            for one in roles_of(objects, account)
            for rule in one["rules"]
            for group in rule["apiGroups"]
            for resource in rule["resources"]
            for verb in rule["verbs"]
            for name in rule.get("resourceNames") or [""]
        }
        spared = {one for one in given if one.resource == "nodes" or one.name == "lora-operator-quota"}
        assert set(rights) == given - spared


def roles_of(objects: list[dict[str, Any]], account: str) -> list[dict[str, Any]]:
    """Roles that are bound to the account while the release is installed."""
    bound = {
        (one["roleRef"]["kind"], one["roleRef"]["name"], one["metadata"].get("namespace"))
        for one in objects
        if one["kind"].endswith("RoleBinding") and one["subjects"][0]["name"] == account and not is_hook(one)
    }
    return [one for one in objects if (one["kind"], one["metadata"]["name"], one["metadata"].get("namespace")) in bound]


def is_hook(one: dict[str, Any]) -> bool:
    return "helm.sh/hook" in (one["metadata"].get("annotations") or {})


def test_operator_and_routers_agree_on_how_long_a_request_counts(tmp_path: Path) -> None:
    objects = template(OPERATOR, tmp_path, {"settings": {"onDemandSeconds": 77}})
    for name in ("operator", "router"):
        pods = only(objects, "Deployment", "lora-operator" if name == "operator" else "lora-operator-router")
        assert "--on-demand-seconds=77" in container(pods, name)["args"]


def test_another_release_beside_the_first_has_names_of_its_own(tmp_path: Path) -> None:
    def names(release: str, namespace: str = "one") -> set[tuple[str, str]]:
        text = run_helm(
            "template", release, str(OPERATOR), "-n", namespace, "--set", "crds.install=false,image.repository=r"
        )
        parts = (re.search(r"^kind: (\S+)\nmetadata:\n  name: (\S+)$", one, re.M) for one in text.split("---\n"))
        return {part.groups() for part in parts if part and part[1] in OF_NO_NAMESPACE}

    assert {kind for kind, _ in names("first")} == OF_NO_NAMESPACE
    assert not names("first") & names("second")
    assert not names("first", "one") & names("first", "two"), "one release for each tenant"


def test_generated_files_are_as_they_are_generated() -> None:
    command = [sys.executable, str(ROOT / "helm" / "render.py"), "--check"]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
