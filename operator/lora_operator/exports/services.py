"""What the Service and the EndpointSlices of one adapter say. Pure.

A pod is in them while the routing table has it answer for the adapter under the adapter's own name: whoever sends a
request here knows no other.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from lora_operator.api.derived_names import derived_name
from lora_operator.api.well_known import GROUP
from lora_operator.exports.own_objects import Kind, of_adapter
from lora_operator.informers.records import PodRecord
from lora_operator.router.entries import Entry

SERVICES = Kind("Service", "services", "", "v1", "adapter")
SLICES = Kind("EndpointSlice", "endpointslices", "discovery.k8s.io", "v1", "adapter")
MODEL_ANNOTATION = f"{GROUP}/model"
PORT = 8000  # vLLM's own: headless Services lead to the pods' port, and so this is most often the same for both styles
PORT_NAME = "engine"
MOST_ENDPOINTS = 1000  # of a slice, for the API server
HEADLESS = "Headless"
PREFIX = "lora-"

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", re.ASCII)
_ODD = re.compile(r"[^a-z0-9-]+", re.ASCII)
_MOST = 63 - len(PREFIX)
_SLICE = re.compile(r"(.+)-ipv[46]-\d+(-\d+)?")

Json = dict[str, Any]


def export_name(name: str) -> str:
    """A name of a Kubernetes object (RFC 1035, 63 characters) for an adapter or a LoraAdapter; no two have one."""
    return PREFIX + derived_name(name, _fits, _ODD.sub("-", name.lower()), otherwise="adapter")


def slice_name(service: str, address: str, port: int) -> str:
    """The first slice of a Service for addresses like this one."""
    return f"{service}-{_family(address).lower()}-{port}"


def service_of(slice_name: str) -> str:
    """The Service that a slice of ours is called for; empty if it is none."""
    found = _SLICE.fullmatch(slice_name)
    return found[1] if found else ""


def slice_names(entry: Entry) -> set[str]:
    """Of an adapter's slices, as `slices` names them."""
    name, counts = export_name(entry.name), Counter[str]()
    for end in entry.endpoints:
        if end.engine_name == entry.name:
            host, _, port = end.address.rpartition(":")
            counts[slice_name(name, host, int(port))] += 1
    return {_part(first, start) for first, count in counts.items() for start in range(0, count, MOST_ENDPOINTS)}


def service(entry: Entry, uid: str, style: str) -> Json:
    """The Service of an adapter, which belongs to its LoraAdapter with this uid."""
    metadata = of_adapter(entry.namespace, export_name(entry.name), entry.resource, uid)
    metadata["annotations"] = {MODEL_ANNOTATION: entry.name}
    port = {"name": PORT_NAME, "port": PORT, "protocol": "TCP"}
    families: Json = {"ipFamilyPolicy": "PreferDualStack"}
    headless: Json = {"clusterIP": "None"} if style == HEADLESS else {}
    return SERVICES.body(metadata, {"spec": {"ports": [port], **families, **headless}})


def slices(entry: Entry, uid: str, pods: Callable[[str], PodRecord | None]) -> Mapping[str, Json]:
    """By name, the EndpointSlices of an adapter: one for each family of addresses, port, and thousand pods."""
    name, made = export_name(entry.name), {}
    places: dict[tuple[str, str, int], list[Json]] = {}
    for end in entry.endpoints:
        if end.engine_name != entry.name:
            continue
        host, _, port = end.address.rpartition(":")
        address = host.strip("[]")
        place = (slice_name(name, address, int(port)), _family(address), int(port))
        record = pods(f"{entry.namespace}/{end.pod}")
        places.setdefault(place, []).append(_endpoint(address, entry.namespace, end.pod, record))
    for (first, family, number), endpoints in places.items():
        for start in range(0, len(endpoints), MOST_ENDPOINTS):
            metadata = of_adapter(entry.namespace, _part(first, start), entry.resource, uid)
            metadata["labels"] = {
                "kubernetes.io/service-name": name, "endpointslice.kubernetes.io/managed-by": "lora-operator",
            }  # fmt: skip
            content = {
                "addressType": family,
                "endpoints": endpoints[start : start + MOST_ENDPOINTS],
                "ports": [{"name": PORT_NAME, "port": number, "protocol": "TCP"}],
            }
            made[metadata["name"]] = SLICES.body(metadata, content)
    return made


def _endpoint(address: str, namespace: str, pod: str, record: PodRecord | None) -> Json:
    target: Json = {"kind": "Pod", "namespace": namespace, "name": pod}
    found: Json = {"addresses": [address], "conditions": {"ready": True}, "targetRef": target}
    if record is not None:
        target["uid"] = record.uid
        if record.pod.node:
            found["nodeName"] = record.pod.node
    return found


def _part(first: str, start: int) -> str:
    return f"{first}-{start // MOST_ENDPOINTS}" if start else first


def _family(address: str) -> str:
    return "IPv6" if ":" in address else "IPv4"


def _fits(name: str) -> bool:
    return len(name) <= _MOST and bool(_LABEL.fullmatch(name))
