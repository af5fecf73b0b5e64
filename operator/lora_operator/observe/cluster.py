"""Our own copy of what the API server says: LoraAdapters, pods, LoraEndpoints and node labels.

Informers feed it, object by object; what our own writes are answered with may be there earlier than the watch. Resource
versions decide which of two observations is the newer one, until a restored etcd begins again with lower ones.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Generic, TypeVar

from lora_operator.api.v1alpha1 import InvalidLoraAdapter, LoraAdapterSpec, parse
from lora_operator.observe.describe import PodDefaults, PodDescription, describe
from lora_operator.observe.endpoints import PodEndpoint, Shared, contents_of
from lora_operator.settings import (
    FINALIZER,
    GATE,
    KEYWORDS_ANNOTATION,
    PIN_ANNOTATION,
    REFRESH_ANNOTATION,
    SERVED_ANNOTATION,
)

Json = Mapping[str, Any]

ANY_OTHER = "*"  # among served names (it cannot be one): there were more than could be noted


@dataclass(frozen=True, slots=True)
class Resource:
    """One LoraAdapter. `spec` is None where it cannot be read, and `problem` says why."""

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
    keywords: str = ""  # the annotation, see `lora_operator.router.about`
    pinned: str = ""  # the annotation, see `lora_operator.pinned`

    @property
    def finalized(self) -> bool:
        """Whether ours is among them."""
        return FINALIZER in self.finalizers


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


T = TypeVar("T", Resource, PodRecord, PodEndpoint)

GONE_REMEMBERED = 10_000
OLD_ANSWERS_SECONDS = 30.0  # longer than any request of ours may take


class Cache(Generic[T]):
    """Objects by `namespace/name`; `version` and `uid` of each decide what is newer."""

    def __init__(self, read: Callable[[Json], T], clock: Callable[[], float] = time.monotonic) -> None:
        self._read: Callable[[Json], T] = read
        self._clock = clock
        self._items: dict[str, T] = {}
        # uids of deleted objects: answers to our own writes and lists come on other connections than the watch, so
        # that one from before a deletion may arrive after it, and no further event would ever correct that
        self._gone: dict[str, None] = {}
        self._rewound_at = float("-inf")

    @property
    def gone_remembered(self) -> int:
        return len(self._gone)

    def __getitem__(self, key: str) -> T:
        return self._items[key]

    def __len__(self) -> int:
        return len(self._items)

    def get(self, key: str) -> T | None:
        return self._items.get(key)

    def values(self) -> Iterable[T]:
        return self._items.values()

    def put(self, body: Json) -> bool:
        """Take what a write of ours was answered with; true if it is news."""
        # once versions have begun anew, that of an answer from before would be higher than all that follow
        return self._clock() - self._rewound_at >= OLD_ANSWERS_SECONDS and self.see(body)

    def see(self, body: Json) -> bool:
        """Take an object as a list or a watch shows it; true if it is news."""
        key, version = key_of(body), version_of(body)
        known = self._items.get(key)
        if body["metadata"]["uid"] in self._gone or (known is not None and known.version >= version):
            return False
        self._items[key] = self._read(body)
        return True

    def drop(self, body: Json) -> bool:
        """Forget a deleted object, unless another one has its name by now."""
        key, uid = key_of(body), body["metadata"]["uid"]
        self._bury(uid)
        known = self._items.get(key)
        if known is None or known.uid != uid:
            return False
        del self._items[key]
        return True

    def absent(self, key: str, made_at: int) -> bool:
        """A full list of that version lacks it: it is gone, unless it was seen after the list was made."""
        known = self._items.get(key)
        if known is None or known.version > made_at:
            return False
        self._bury(known.uid)
        del self._items[key]
        return True

    def forget(self, key: str) -> bool:
        """It is no longer our business, whether it is there or not."""
        return self._items.pop(key, None) is not None

    def rewind(self) -> None:
        """The API server goes on from an earlier state (etcd was restored): what it says next is newer than all that
        is known, whatever the versions, and what was deleted may be back."""
        self._rewound_at = self._clock()
        self._gone.clear()
        self._items = {key: replace(item, version=0) for key, item in self._items.items()}

    def _bury(self, uid: str) -> None:
        self._gone[uid] = None
        if len(self._gone) > GONE_REMEMBERED:
            del self._gone[next(iter(self._gone))]


class Cluster:
    """Everything that the API server told us."""

    def __init__(self, defaults: PodDefaults) -> None:
        self.adapters: Cache[Resource] = Cache(read_resource)
        self.pods: Cache[PodRecord] = Cache(lambda body: read_pod(body, defaults))
        self.shared = Shared()
        self.endpoints: Cache[PodEndpoint] = Cache(lambda body: read_endpoint(body, self.shared))
        self.node_labels: dict[str, Mapping[str, str]] = {}


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
