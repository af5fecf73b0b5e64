"""The chart's gateway: one address, closed where it can be, with a configuration that the real Envoy takes."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.controlplane.errors import HelmError
from e2e.envoy import EnvoyUnavailable, find_envoy
from tests.helm.charts import OPERATOR, SYSTEM, container, only, template
from tests.helm.test_picker import settings_of

NAME = "lora-operator-gateway"
CLIENTS = [{"podSelector": {"matchLabels": {"app": "chat"}}}]


def rendered(tmp_path: Path, **gateway: Any) -> list[dict[str, Any]]:
    return template(OPERATOR, tmp_path, {"gateway": {"enabled": True, **gateway}})


def test_there_is_no_gateway_unless_it_is_asked_for(tmp_path: Path) -> None:
    assert not [one for one in template(OPERATOR, tmp_path) if "gateway" in one["metadata"]["name"]]
    with pytest.raises(HelmError, match=r"set router\.enabled to true"):
        template(OPERATOR, tmp_path, {"gateway": {"enabled": True}, "router": {"enabled": False}})


def test_with_the_gateway_comes_a_picker_that_only_the_gateway_reaches(tmp_path: Path) -> None:
    objects = rendered(tmp_path)
    assert settings_of(objects).picker_port == 9002
    service = only(objects, "Service", "lora-operator-picker")["spec"]
    assert (service["clusterIP"], service["ports"][0]["port"]) == ("None", 9002)
    pods = only(objects, "Deployment", NAME)["spec"]
    gateway = {"podSelector": {"matchLabels": pods["selector"]["matchLabels"]}}
    rules = only(objects, "NetworkPolicy", "lora-operator-router")["spec"]["ingress"]
    assert {"ports": [{"port": "picker"}], "from": [gateway]} in rules
    asked = config_of(objects)["static_resources"]["clusters"][1]["load_assignment"]["endpoints"][0]["lb_endpoints"][0]
    address = {"address": f"lora-operator-picker.{SYSTEM}.svc", "port_value": 9002}
    assert asked["endpoint"]["address"]["socket_address"] == address


def test_its_pods_may_do_nothing_but_answer(tmp_path: Path) -> None:
    objects = rendered(tmp_path, clients=CLIENTS)
    made = only(objects, "Deployment", NAME)
    envoy = container(made, "envoy")
    assert envoy["securityContext"]["readOnlyRootFilesystem"]
    assert made["spec"]["template"]["spec"]["automountServiceAccountToken"] is False
    assert set(envoy["resources"]["requests"]) == {"cpu", "memory"}
    assert not [one for one in objects if "RoleBinding" in one["kind"] and NAME in str(one["subjects"])]
    policy = only(objects, "NetworkPolicy", NAME)["spec"]["ingress"]
    assert policy[0] == {"ports": [{"port": "gateway"}], "from": CLIENTS}
    grace = made["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert grace > envoy["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert only(objects, "PodDisruptionBudget", NAME)["spec"]["selector"] == made["spec"]["selector"]


def test_an_autoscaler_has_the_last_word_on_replicas(tmp_path: Path) -> None:
    assert only(rendered(tmp_path, replicas=3), "Deployment", NAME)["spec"]["replicas"] == 3
    objects = rendered(tmp_path, autoscaling={"enabled": True, "maxReplicas": 7})
    assert "replicas" not in only(objects, "Deployment", NAME)["spec"]
    assert only(objects, "HorizontalPodAutoscaler", NAME)["spec"]["maxReplicas"] == 7


def test_a_new_configuration_replaces_the_pods(tmp_path: Path) -> None:
    marks = [
        only(rendered(tmp_path, **values), "Deployment", NAME)["spec"]["template"]["metadata"]["annotations"]
        for values in ({}, {"replicas": 5}, {"idleSeconds": 77})
    ]
    assert marks[0] == marks[1] != marks[2]


@pytest.mark.parametrize(
    ("values", "port", "name"),
    [({}, 80, "http"), ({"tlsSecret": "cert"}, 443, "https"), ({"service": {"port": 8443}}, 8443, "http")],
)
def test_the_service_has_the_port_that_clients_expect(
    tmp_path: Path, values: dict[str, Any], port: int, name: str
) -> None:
    (found,) = only(rendered(tmp_path, **values), "Service", NAME)["spec"]["ports"]
    assert (found["port"], found["name"], found["targetPort"]) == (port, name, "gateway")


def test_paths_may_be_opened_and_what_is_none_is_refused(tmp_path: Path) -> None:
    paths = paths_of(rendered(tmp_path, morePaths=["/v1/custom"]))
    assert {"/v1/custom", "/v1/chat/completions", "/v1/audio/transcriptions"} <= paths
    assert not paths & {"/metrics", "/v1/load_lora_adapter", "/invocations", "/adapters"}
    with pytest.raises(HelmError, match="morePaths/0"):
        rendered(tmp_path, morePaths=["custom"])


def test_the_gateway_may_reach_engines_from_its_own_namespace() -> None:
    text = (OPERATOR.parent / "vllm-lora" / "templates" / "network-policy.yaml").read_text()
    assert "app.kubernetes.io/component: gateway" in text


@pytest.mark.parametrize(
    "values",
    [
        {},
        {
            "accessLog": True, "address": "::", "namespace": "team-a", "rateLimit": {"requests": 5},
            "owners": {
                "jwt": {"issuer": "https://i.example.com", "audiences": ["a"], "jwksUri": "https://i.example.com:8443/k"}
            },
        },
    ],
    ids=["default", "everything"],
)  # fmt: skip
def test_envoy_takes_the_configuration(tmp_path: Path, values: dict[str, Any]) -> None:
    try:
        program = find_envoy()
    except EnvoyUnavailable as error:
        pytest.skip(str(error))
    file = tmp_path / "envoy.yaml"
    file.write_text(only(rendered(tmp_path, **values), "ConfigMap", NAME)["data"]["envoy.yaml"])
    checked = subprocess.run(
        [program, "--mode", "validate", "--log-level", "error", "-c", file], capture_output=True, text=True, timeout=120
    )
    assert checked.returncode == 0, checked.stderr


def test_owners_are_known_to_the_picker_as_the_gateway_verifies_them(tmp_path: Path) -> None:
    keys = rendered(tmp_path, owners={"keysSecret": "keys", "shared": ["platform"]}, rateLimit={"requests": 5})
    got = settings_of(keys)
    assert (got.picker_keys, got.picker_shared_owners) == ("/etc/gateway-keys", ("platform",))
    pod = only(keys, "Deployment", "lora-operator-router")["spec"]["template"]["spec"]
    assert pod["volumes"] == [{"name": "gateway-keys", "secret": {"secretName": "keys"}}]
    jwt = {"issuer": "https://i.example.com", "audiences": ["a"], "jwks": '{"keys": []}', "claim": "tenant"}
    got = settings_of(rendered(tmp_path, owners={"jwt": jwt | {"prefix": "u."}}))
    assert (got.picker_owner_claim, got.picker_owner_prefix) == ("tenant", "u.")
    library = {"enabled": True, "settings": {"store": "s3://b", "oidcIssuer": jwt["issuer"], "oidcAudience": "loras"}}
    with pytest.raises(HelmError, match="set both to the same"):
        template(
            OPERATOR, tmp_path,
            {"gateway": {"enabled": True, "owners": {"jwt": jwt | {"prefix": "u."}}}, "library": library},
        )  # fmt: skip
    refused: tuple[tuple[dict[str, Any], str], ...] = (
        ({"owners": {"jwt": jwt, "keysSecret": "keys"}}, "set keysSecret or jwt"),
        ({"owners": {"jwt": {"issuer": "x"}}}, "neither jwksUri nor jwks"),
        ({"owners": {"jwt": jwt | {"issuer": ""}}}, "issuer is not set"),
        ({"owners": {"jwt": jwt | {"audiences": []}}}, "whom tokens must be for"),
        ({"rateLimit": {"requests": 5}}, "how owners are known"),
    )
    for values, says in refused:
        with pytest.raises(HelmError, match=says):
            rendered(tmp_path, **values)


def config_of(objects: list[dict[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(only(objects, "ConfigMap", NAME)["data"]["envoy.yaml"])
    return found


def paths_of(objects: list[dict[str, Any]]) -> set[str]:
    listener = config_of(objects)["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]
    routes = listener["route_config"]["virtual_hosts"][0]["routes"]
    return {one["match"]["path"] for one in routes if "path" in one["match"]}
