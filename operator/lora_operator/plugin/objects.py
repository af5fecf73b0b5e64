"""LoraAdapters, pods and nodes as objects: from a cluster, or from YAML as if it had been applied."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from lora_operator.api.well_known import GROUP, VERSION
from lora_operator.informers.pod_description import containers_of
from lora_operator.kube.client import Json, KubeError
from lora_operator.plugin.connect import Cluster
from lora_operator.plugin.problems import PluginError

WORKLOADS = ("Deployment", "StatefulSet", "ReplicaSet")
HOSTNAME = "kubernetes.io/hostname"
CREATED = "1970-01-01T00:00:00Z"
PODS_MAX = 10_000


@dataclass(slots=True)
class Objects:
    """What a plan is made of. `adapters` and `pods` by namespace/name, so that a later one takes the place of an
    earlier one; `applied` are the LoraAdapters that came from files; `notes` say what was passed over."""

    adapters: dict[str, Json] = field(default_factory=dict)
    pods: dict[str, Json] = field(default_factory=dict)
    node_labels: dict[str, Mapping[str, str]] = field(default_factory=dict)
    applied: set[str] = field(default_factory=set)
    notes: list[str] = field(default_factory=list)


async def from_cluster(cluster: Cluster) -> Objects:
    """Everything there that the command is about. Raises PluginError."""
    found = Objects()
    for body in await cluster.adapters():
        found.adapters[_key(body)] = body
    for body in await cluster.all_pods():
        found.pods[_key(body)] = body
    try:
        found.node_labels.update(await cluster.labels_of_nodes())
    except KubeError as error:
        found.notes.append(f"labels of nodes are not known, and replicas not spread over zones: {error}")
    return found


def add_files(found: Objects, names: Iterable[str], namespace: str) -> None:
    """Add what is in YAML files. What says no namespace is of `namespace`. Raises PluginError."""
    for name in names:
        for document in documents(name):
            _add(found, document, namespace, name)


def documents(name: str) -> Iterator[Json]:
    """The objects of a file, those of lists one by one; `-` is the standard input. Raises PluginError."""
    try:
        text = sys.stdin.read() if name == "-" else Path(name).read_text(encoding="utf-8")
        for document in yaml.safe_load_all(text):
            yield from _flattened(document, name)
    except OSError as error:
        raise PluginError(f"cannot read {name}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        said = " ".join(str(error).split())[:300]
        raise PluginError(f"{name} is not YAML: {said}") from error


def _flattened(document: Any, name: str) -> Iterator[Json]:
    if document is None:
        return
    if not isinstance(document, dict) or not isinstance(document.get("kind"), str):
        raise PluginError(f"{name}: a document is no Kubernetes object: it has no kind")
    if document["kind"].endswith("List") and isinstance(document.get("items"), list):
        for item in document["items"]:
            yield from _flattened(item, name)
        return
    metadata = document.get("metadata")
    if not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str):
        raise PluginError(f"{name}: a {document['kind']} has no metadata.name")
    yield document


def _add(found: Objects, document: Json, namespace: str, file: str) -> None:
    kind, metadata = document["kind"], document["metadata"]
    if kind == "LoraAdapter":
        if document.get("apiVersion") != f"{GROUP}/{VERSION}":
            found.notes.append(
                f"{file}: LoraAdapter {metadata['name']} is of {document.get('apiVersion')}, not ours: "
                "`kubectl lora migrate` translates it"
            )
            return
        body = _applied(document, namespace, found.adapters)
        found.adapters[_key(body)] = body
        found.applied.add(_key(body))
    elif kind == "Pod":
        body = _applied(document, namespace, found.pods)
        found.pods[_key(body)] = running(body)
    elif kind in WORKLOADS:
        for body in _pods_of(document, namespace):
            found.pods[_key(body)] = body
    elif kind == "Node":
        found.node_labels[metadata["name"]] = metadata.get("labels") or {}
    if len(found.pods) > PODS_MAX:
        raise PluginError(f"{file}: these are more than {PODS_MAX} pods")


def _applied(document: Json, namespace: str, known: Mapping[str, Json]) -> Json:
    """As it would be in the cluster: what is there already keeps its identity and status."""
    metadata = {"namespace": namespace} | {k: v for k, v in document["metadata"].items() if v is not None}
    before = known.get(f"{metadata['namespace']}/{metadata['name']}", {})
    old = before.get("metadata", {})
    metadata = {
        "uid": old.get("uid") or f"{document['kind']}/{metadata['namespace']}/{metadata['name']}",
        "resourceVersion": old.get("resourceVersion") or "1",
        "creationTimestamp": old.get("creationTimestamp") or CREATED,
        "generation": old.get("generation") or 1,
        **metadata,
    }
    status = document.get("status") or before.get("status") or {}
    return {**document, "metadata": metadata, "status": status}


def running(pod: Json) -> Json:
    """A pod whose status says nothing (as in a file that was written by hand) counts as up."""
    if (pod.get("status") or {}).get("phase"):
        return pod
    containers: list[Json] = [
        {"name": c.get("name"), "containerID": "none://assumed", "ready": True, "state": {"running": {}}}
        for c in containers_of(pod.get("spec") or {})
    ]
    conditions = [{"type": kind, "status": "True"} for kind in ("ContainersReady", "Ready")]
    status = {"phase": "Running", "podIP": "192.0.2.1", "conditions": conditions, "containerStatuses": containers}
    return {**pod, "status": status}


def _pods_of(workload: Json, namespace: str) -> Iterator[Json]:
    spec, metadata = workload.get("spec") or {}, workload["metadata"]
    template = spec.get("template") or {}
    replicas = spec.get("replicas", 1)
    for number in range(min(replicas if isinstance(replicas, int) else 1, PODS_MAX + 1)):
        name = f"{metadata['name']}-{number}"
        body = {
            "kind": "Pod",
            "metadata": {**(template.get("metadata") or {}), "name": name,
                         "namespace": metadata.get("namespace") or namespace},
            "spec": template.get("spec") or {},
        }  # fmt: skip
        yield running(_applied(body, namespace, {}))


def _key(body: Json) -> str:
    return f"{body['metadata']['namespace']}/{body['metadata']['name']}"
