"""The sample of an InferencePool fits together, and its picker may do what the shipped router may."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from lora_operator.cli.main import parser
from lora_operator.router.settings import from_arguments

MANIFESTS = Path(__file__).parents[2] / "manifests"


def by_kind(file: str) -> dict[str, Any]:
    return {one["kind"]: one for one in yaml.safe_load_all((MANIFESTS / file).read_text())}


def test_pool_service_and_picker_name_each_other() -> None:
    sample = by_kind("samples/gateway/inference-pool.yaml")
    (container,) = sample["Deployment"]["spec"]["template"]["spec"]["containers"]
    settings = from_arguments(parser("router").parse_args([*container["command"][1:], *container["args"]]), {})
    pool, service = sample["InferencePool"], sample["Service"]
    namespace = pool["metadata"]["namespace"]
    assert settings.namespaces == (settings.picker_namespace,) == (namespace,)
    # gateways encrypt their way to a picker unless they are told otherwise
    assert settings.picker_self_signed
    reference, (port,) = pool["spec"]["endpointPickerRef"], service["spec"]["ports"]
    assert (reference["name"], reference["port"]["number"]) == (service["metadata"]["name"], port["port"])
    assert {"name": port["targetPort"], "containerPort": settings.picker_port} in container["ports"]
    assert service["metadata"]["namespace"] == namespace
    (rule,) = sample["HTTPRoute"]["spec"]["rules"]
    assert rule["backendRefs"][0]["name"] == pool["metadata"]["name"]


def test_the_picker_has_the_rights_of_a_router() -> None:
    assert (
        by_kind("samples/gateway/inference-pool.yaml")["Role"]["rules"]
        == (by_kind("install/router.yaml")["ClusterRole"]["rules"])
    )
