"""What is changed in a pod that asks for an agent. Pure.

The chart's MutatingAdmissionPolicy (helm/lora-operator/templates/agent-injection.yaml) says the same in CEL, for
clusters that have it; agent and volumes come to both from one template, and tests hold both to the same pods.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lora_operator.api.well_known import GROUP, POD_LABEL

Json = dict[str, Any]
Operation = dict[str, Any]

LABEL, VALUE = f"{GROUP}/agent", "inject"
PORT_ANNOTATION = f"{GROUP}/port"
ADAPTER_ROOT_ANNOTATION = f"{GROUP}/adapter-root"
AGENT_PORT = "lora-agent"
ROOT = "/adapters"
RUNTIME_UPDATING = "VLLM_ALLOW_RUNTIME_LORA_UPDATING"
ENGINE_PORT = "{port}"  # stands for it in the agent's arguments
DEFAULT_PORT = "8000"


@dataclass(frozen=True, slots=True)
class Parts:
    """What a pod gets: the agent's container, and its volumes."""

    agent: Mapping[str, Any]
    volumes: Sequence[Mapping[str, Any]]


def json_patch(pod: Mapping[str, Any], parts: Parts) -> list[Operation]:
    """The operations of a JSON patch (RFC 6902); none for a pod that does not ask, or has what an agent brings."""
    metadata, spec = pod.get("metadata") or {}, pod.get("spec") or {}
    containers: list[Json] = spec.get("containers") or []
    if (metadata.get("labels") or {}).get(LABEL) != VALUE or not containers or _has_own(spec, parts):
        return []
    number = _engine(containers)
    engine, annotations = containers[number], metadata.get("annotations") or {}
    port = annotations.get(PORT_ANNOTATION) or _port(engine)
    at = f"/spec/containers/{number}"
    mount = {"name": parts.volumes[0]["name"], "mountPath": ROOT, "readOnly": True}
    named = {one.get("name") for one in engine.get("env") or ()}
    variables = [] if RUNTIME_UPDATING in named else [{"name": RUNTIME_UPDATING, "value": "True"}]
    return [
        _add(f"/metadata/labels/{_escaped(POD_LABEL)}", "enabled"),
        *([] if metadata.get("annotations") is not None else [_add("/metadata/annotations", {})]),
        _add(f"/metadata/annotations/{_escaped(ADAPTER_ROOT_ANNOTATION)}", ROOT),
        *_append(spec, "/spec", "volumes", parts.volumes),
        *_append(spec, "/spec", "initContainers", [_agent(parts.agent, port)]),
        *_append(engine, at, "volumeMounts", [mount]),
        *_append(engine, at, "env", variables),
    ]


def _has_own(spec: Mapping[str, Any], parts: Parts) -> bool:
    """An agent, or a volume for adapters."""
    containers = spec["containers"]
    everything = [*containers, *(spec.get("initContainers") or ())]
    ours = {one["name"] for one in parts.volumes}
    return (
        any(port.get("name") == AGENT_PORT for one in everything for port in one.get("ports") or ())
        or any(one.get("name") in ours for one in spec.get("volumes") or ())
        or any(mount.get("mountPath") == ROOT for one in containers for mount in one.get("volumeMounts") or ())
    )


def _engine(containers: Sequence[Mapping[str, Any]]) -> int:
    """The place of vLLM: called so, or with its flag for adapters; else the first container."""
    for number, one in enumerate(containers):
        if one.get("name") == "vllm" or any("--enable-lora" in word for word in _words(one)):
            return number
    return 0


def _port(engine: Mapping[str, Any]) -> str:
    words = _words(engine)
    for word in words:
        if word.startswith("--port="):
            return word.removeprefix("--port=")
    after = words.index("--port") + 1 if "--port" in words else len(words)
    return words[after] if after < len(words) else DEFAULT_PORT


def _words(container: Mapping[str, Any]) -> list[str]:
    return [*(container.get("command") or ()), *(container.get("args") or ())]


def _agent(agent: Mapping[str, Any], port: str) -> Json:
    return {**agent, "args": [word.replace(ENGINE_PORT, port) for word in agent["args"]]}


def _append(owner: Mapping[str, Any], path: str, field: str, items: Sequence[object]) -> list[Operation]:
    """To the list `field` of what is at `path`, which may lack it."""
    if not items:
        return []
    made = [] if owner.get(field) is not None else [_add(f"{path}/{field}", [])]
    return [*made, *(_add(f"{path}/{field}/-", item) for item in items)]


def _add(path: str, value: object) -> Operation:
    return {"op": "add", "path": path, "value": value}


def _escaped(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")
