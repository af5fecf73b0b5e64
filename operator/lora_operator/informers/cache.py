"""Our own copy of what the API server says: LoraAdapters, pods, LoraEndpoints and node labels.

Informers feed it, object by object; what our own writes are answered with may be there earlier than the watch. Resource
versions decide which of two observations is the newer one, until a restored etcd begins again with lower ones.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Generic, TypeVar

from lora_operator.informers.endpoints import PodEndpoint, Shared
from lora_operator.informers.exported import ExportedObject
from lora_operator.informers.pod_description import PodDefaults
from lora_operator.informers.records import (
    Json,
    PodRecord,
    Resource,
    key_of,
    read_endpoint,
    read_pod,
    read_resource,
    version_of,
)

T = TypeVar("T", Resource, PodRecord, PodEndpoint, ExportedObject)

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

    def is_at(self, body: Json) -> bool:
        """Whether nothing newer is known than this."""
        known = self._items.get(key_of(body))
        return known is not None and known.version == version_of(body)

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
