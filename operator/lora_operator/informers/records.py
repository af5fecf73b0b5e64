"""What we keep of a LoraAdapter, a pod and a LoraEndpoint as the API server shows them. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from lora_operator.api.v1alpha1 import InvalidLoraAdapter, LoraAdapterSpec, parse
from lora_operator.api.well_known import (
    FINALIZER,
    GATE,
    KEYWORDS_ANNOTATION,
    MODELS_ANNOTATION,
    PIN_ANNOTATION,
    REFRESH_ANNOTATION,
    SERVED_ANNOTATION,
)
from lora_operator.informers.endpoints import PodEndpoint, Shared, contents_of
from lora_operator.informers.pod_description import PodDefaults, PodDescription, describe
from lora_operator.informers.published_status import PublishedStatus, read_status

Json = Mapping[str, Any]


ANY_OTHER = "*"  # among served names (it cannot be one): there were more than could be noted


@dataclass(frozen=True, slots=True)
class Resource:
    """One LoraAdapter. `spec` is None where it cannot be read, and `problem` says why. `published`: `status`, read."""

    key: str
    namespace: str
    name: str
    uid: str
    version: int
    generation: int
    created: str
    deleted_at: float | None
    finalizers: tuple[str, ...]
    refresh: str
    spec: LoraAdapterSpec | None
    problem: str
    status: Json
    keywords: str = ""  # the annotation, see `lora_operator.router.selection_texts`
    pinned: str = ""  # the annotation, see `lora_operator.desired.pinning`
    published: PublishedStatus = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "published", read_status(self.status))

    @property
    def finalized(self) -> bool:
        """Whether ours is among them."""
        return FINALIZER in self.finalizers


def asks_the_same(one: Resource, other: Resource) -> bool:
    """Whether they differ in status and finalizers at most. The API server counts what is changed of a spec."""
    return _asked(one) == _asked(other)


def _asked(resource: Resource) -> tuple[object, ...]:
    deleted, annotations = resource.deleted_at is not None, (resource.refresh, resource.keywords, resource.pinned)
    return resource.uid, resource.generation, resource.created, deleted, resource.problem, annotations


@dataclass(frozen=True, slots=True)
class PodRecord:
    """One pod: what it says about itself, and what was noted on it about its present container.

    `served`: public name -> fingerprint that this container has served under the plain name.
    """

    key: str
    uid: str
    version: int
    pod: PodDescription
    served: Mapping[str, str]
    gated: bool
    gate_open: bool
    gate_for: str = ""  # the container for which it was opened (PodDescription.container_mark), if that is said
    models_mark: str = ""  # see `lora_operator.exports.pod_marks`


def key_of(body: Json) -> str:
    metadata = body["metadata"]
    return f"{metadata['namespace']}/{metadata['name']}"


def version_of(body: Json) -> int:
    """Resource versions of one type are comparable integers (Kubernetes 1.35 made that official)."""
    text = str(body["metadata"].get("resourceVersion", ""))
    return int(text) if text.isdigit() else 0


def read_resource(body: Json) -> Resource:
    """Reduce a LoraAdapter to what we use; an unreadable spec is a problem to report, never an exception."""
    metadata = body["metadata"]
    spec: LoraAdapterSpec | None = None
    problem = ""
    try:
        spec = parse(body).spec
    except InvalidLoraAdapter as error:
        problem = str(error)
    return Resource(
        key=key_of(body),
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        version=version_of(body),
        generation=metadata.get("generation", 0),
        created=metadata.get("creationTimestamp") or "",
        deleted_at=timestamp(metadata.get("deletionTimestamp")),
        finalizers=tuple(metadata.get("finalizers") or ()),
        refresh=(metadata.get("annotations") or {}).get(REFRESH_ANNOTATION, ""),
        spec=spec,
        problem=problem,
        status=body.get("status") or {},
        keywords=(metadata.get("annotations") or {}).get(KEYWORDS_ANNOTATION, ""),
        pinned=(metadata.get("annotations") or {}).get(PIN_ANNOTATION, ""),
    )


def read_pod(body: Json, defaults: PodDefaults) -> PodRecord:
    """Reduce a pod to what we use."""
    pod = describe(body, defaults)
    annotations = body["metadata"].get("annotations") or {}
    gates = (body.get("spec") or {}).get("readinessGates") or ()
    conditions = (body.get("status") or {}).get("conditions") or ()
    opened = next((c for c in conditions if c.get("type") == GATE and c.get("status") == "True"), None)
    opened_for = re.search(r"\(container (\S+)\)$", str((opened or {}).get("message") or ""))
    return PodRecord(
        key=key_of(body),
        uid=body["metadata"]["uid"],
        version=version_of(body),
        pod=pod,
        served=served_names(annotations.get(SERVED_ANNOTATION), pod.container_id),
        gated=any(gate.get("conditionType") == GATE for gate in gates),
        gate_open=opened is not None,
        gate_for=opened_for[1] if opened_for else "",
        models_mark=annotations.get(MODELS_ANNOTATION) or "",
    )


def read_endpoint(body: Json, shared: Shared) -> PodEndpoint:
    """Reduce a LoraEndpoint to what we use."""
    return PodEndpoint(key_of(body), body["metadata"]["uid"], version_of(body), contents_of(body, shared))


def served_names(annotation: str | None, container_id: str | None) -> Mapping[str, str]:
    """What the annotation says about this very container; nothing if it is about an earlier one or is not readable."""
    if not annotation or not container_id:
        return {}
    try:
        noted = json.loads(annotation)
        names = noted["names"] if noted["container"] == container_id else {}
        served = {str(name): str(fingerprint) for name, fingerprint in names.items()}
        return served | ({ANY_OTHER: ""} if names and noted.get("full") else {})
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}


def timestamp(text: str | None) -> float | None:
    """Seconds since the epoch of a Kubernetes time."""
    return datetime.fromisoformat(text).timestamp() if text else None
