"""The chart puts the endpoint picker beside the router API, for gateways alone where it is told which they are."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest

from e2e.controlplane.errors import HelmError
from lora_operator.router.settings import RouterSettings, from_arguments
from lora_operator.settings.options import add_options
from tests.helm.charts import OPERATOR, container, only, template

NAME = "lora-operator-router"
GATEWAYS = [{"podSelector": {"matchLabels": {"app": "gateway"}}}]


def rendered(tmp_path: Path, **router: Any) -> list[dict[str, Any]]:
    return template(OPERATOR, tmp_path, {"router": router})


def settings_of(objects: list[dict[str, Any]]) -> RouterSettings:
    parser = argparse.ArgumentParser()
    add_options(parser, RouterSettings, "LORA_ROUTER_")
    return from_arguments(parser.parse_args(container(only(objects, "Deployment", NAME), "router")["args"]), {})


def test_the_picker_is_off_unless_it_is_asked_for(tmp_path: Path) -> None:
    objects = rendered(tmp_path)
    assert settings_of(objects).picker_port == 0
    assert [one["name"] for one in only(objects, "Service", NAME)["spec"]["ports"]] == ["http"]


def test_the_picker_encrypts_unless_it_is_told_not_to(tmp_path: Path) -> None:
    objects = rendered(tmp_path, picker={"enabled": True})
    assert settings_of(objects).picker_self_signed
    assert "appProtocol" not in only(objects, "Service", NAME)["spec"]["ports"][1]
    with pytest.raises(HelmError, match="plainText and tlsSecret"):
        rendered(tmp_path, picker={"enabled": True, "plainText": True, "tlsSecret": "x"})


def test_the_picker_is_reached_by_gateways_as_plain_http2(tmp_path: Path) -> None:
    objects = rendered(tmp_path, picker={"enabled": True, "port": 9003, "plainText": True, "clients": GATEWAYS})
    assert not settings_of(objects).picker_self_signed
    assert settings_of(objects).picker_port == 9003
    port = {one["name"]: one for one in only(objects, "Service", NAME)["spec"]["ports"]}["picker"]
    assert (port["port"], port["appProtocol"]) == (9003, "kubernetes.io/h2c")
    ports = container(only(objects, "Deployment", NAME), "router")["ports"]
    assert {"name": port["targetPort"], "containerPort": 9003} in ports
    rules = only(objects, "NetworkPolicy", NAME)["spec"]["ingress"]
    assert {"ports": [{"port": "picker"}], "from": GATEWAYS} in rules


def test_a_certificate_of_the_picker_comes_from_its_secret(tmp_path: Path) -> None:
    objects = rendered(tmp_path, picker={"enabled": True, "tlsSecret": "cert"})
    settings = settings_of(objects)
    assert (settings.picker_tls_cert, settings.picker_tls_key) == ("/etc/picker/tls.crt", "/etc/picker/tls.key")
    pod = only(objects, "Deployment", NAME)["spec"]["template"]["spec"]
    mount = container(only(objects, "Deployment", NAME), "router")["volumeMounts"]
    assert mount == [{"name": "picker", "mountPath": "/etc/picker", "readOnly": True}]
    assert pod["volumes"] == [{"name": "picker", "secret": {"secretName": "cert"}}]
    ports = {one["name"]: one for one in only(objects, "Service", NAME)["spec"]["ports"]}
    assert "appProtocol" not in ports["picker"]


def test_a_picker_without_routers_is_refused(tmp_path: Path) -> None:
    with pytest.raises(HelmError, match=r"set router\.enabled to true"):
        rendered(tmp_path, enabled=False, picker={"enabled": True})
