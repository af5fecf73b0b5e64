"""The CustomResourceDefinitions, made from the models."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from lora_operator.api import endpoint
from lora_operator.api import v1alpha1 as api
from lora_operator.api.well_known import ENDPOINTS

PLURALS = (api.PLURAL, ENDPOINTS)

# What a structural schema of Kubernetes may not have, or that says nothing there.
_DROPPED = ("title", "$defs", "additionalProperties")

_ORDER = ("description", "type", "format", "enum", "default", "properties", "additionalProperties", "items", "required")

COLUMNS: tuple[dict[str, Any], ...] = (
    {"name": "Phase", "type": "string", "jsonPath": ".status.phase"},
    {"name": "Ready", "type": "string", "jsonPath": '.status.conditions[?(@.type=="Ready")].status'},
    {"name": "Base model", "type": "string", "jsonPath": ".spec.baseModel"},
    {"name": "Source", "type": "string", "jsonPath": ".spec.adapterSource.type"},
    {
        "name": "Adapters",
        "type": "string",
        "jsonPath": ".status.summary",
        "description": "Loaded and wanted adapters",
    },
    {"name": "Replicas", "type": "integer", "jsonPath": ".status.replicas", "description": "Replicas of each adapter"},
    {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
    {
        "name": "Message",
        "type": "string",
        "jsonPath": '.status.conditions[?(@.type=="Ready")].message',
        "priority": 1,
    },
)
ENDPOINT_COLUMNS: tuple[dict[str, Any], ...] = (
    {"name": "Address", "type": "string", "jsonPath": ".address"},
    {"name": "Base model", "type": "string", "jsonPath": ".baseModels[0]"},
    {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
)


def file_name(plural: str) -> str:
    """Of the file that holds the definition of this resource."""
    return f"{plural}.{api.GROUP}.yaml"


def schema_of(model: type[BaseModel]) -> dict[str, Any]:
    """The structural schema of a model: references written out, no nulls, nested defaults left to the nested object."""
    schema = model.model_json_schema(by_alias=True)
    structural: dict[str, Any] = _structural(schema, schema.get("$defs", {}))
    return structural


def _structural(node: Any, definitions: dict[str, Any]) -> Any:
    if isinstance(node, list):
        return [_structural(item, definitions) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        target = definitions[node["$ref"].rsplit("/", 1)[-1]]
        return _structural({**target, **{key: value for key, value in node.items() if key != "$ref"}}, definitions)
    options = [option for option in node.get("anyOf", []) if option != {"type": "null"}]
    if len(options) == 1:
        rest = {key: value for key, value in node.items() if key not in ("anyOf", "default")}
        return _structural({**options[0], **rest}, definitions)
    result = {key: value for key, value in node.items() if key not in _DROPPED}
    if "properties" in node:
        result["properties"] = {name: _structural(one, definitions) for name, one in node["properties"].items()}
        # The defaults of the parts are in the parts: here an empty object is enough to make them appear.
        if "default" in result:
            result["default"] = {}
    elif isinstance(node.get("additionalProperties"), dict):
        result["additionalProperties"] = _structural(node["additionalProperties"], definitions)
        result.pop("propertyNames", None)
    if "items" in node:
        result["items"] = _structural(node["items"], definitions)
    if isinstance(result.get("description"), str):
        result["description"] = " ".join(result["description"].split())
    if result.get("default") in ("", [], {}) and "properties" not in result:
        del result["default"]
    return dict(sorted(result.items(), key=lambda item: _ORDER.index(item[0]) if item[0] in _ORDER else len(_ORDER)))


def _without_defaults(node: Any) -> Any:
    """A status has none: what its writer leaves out is to stay out."""
    if isinstance(node, dict):
        return {key: _without_defaults(value) for key, value in node.items() if key != "default"}
    return [_without_defaults(item) for item in node] if isinstance(node, list) else node


def definition(plural: str = api.PLURAL) -> dict[str, Any]:
    """The whole CustomResourceDefinition of one of PLURALS."""
    of_pods = plural == ENDPOINTS
    names = endpoint if of_pods else api
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{api.GROUP}"},
        "spec": {
            "group": api.GROUP,
            "names": {
                "kind": names.KIND,
                "listKind": f"{names.KIND}List",
                "plural": plural,
                "singular": names.SINGULAR,
                "shortNames": [names.SHORT_NAME],
                "categories": [api.CATEGORY],
            },
            "scope": "Namespaced",
            "versions": [_version_of_endpoints() if of_pods else _version()],
        },
    }


def _version() -> dict[str, Any]:
    return {
        "name": api.VERSION,
        "served": True,
        "storage": True,
        "subresources": {
            "status": {},
            "scale": {
                "specReplicasPath": ".spec.deploymentConfig.replicas",
                "statusReplicasPath": ".status.replicas",
                "labelSelectorPath": ".status.selector",
            },
        },
        "additionalPrinterColumns": list(COLUMNS),
        "schema": _schema(
            api.LoraAdapter.__doc__,
            {"spec": schema_of(api.LoraAdapterSpec), "status": _without_defaults(schema_of(api.LoraAdapterStatus))},
            required=["spec"],
        ),
    }


def _version_of_endpoints() -> dict[str, Any]:
    """Neither spec nor status, as EndpointSlices have none: one write says all of it."""
    return {
        "name": api.VERSION,
        "served": True,
        "storage": True,
        "additionalPrinterColumns": list(ENDPOINT_COLUMNS),
        "schema": _schema(
            endpoint.LoraEndpoint.__doc__, _without_defaults(schema_of(endpoint.LoraEndpoint))["properties"]
        ),
    }


def _schema(text: str | None, fields: dict[str, Any], **more: Any) -> dict[str, Any]:
    common = {"apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {"type": "object"}}
    return {
        "openAPIV3Schema": {
            "description": " ".join((text or "").split()), "type": "object", **more, "properties": common | fields,
        }
    }  # fmt: skip
