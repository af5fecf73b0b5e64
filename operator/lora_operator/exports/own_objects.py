"""Keeps the objects of one kind that the operator has made as they should be.

They are known by a label. An object of somebody else under a name that one of them should have is left alone, and its
place is tried again and again. What somebody changed or deleted is put right.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from lora_operator.api.well_known import GROUP, VERSION
from lora_operator.informers.cache import Cache
from lora_operator.informers.exported import ExportedObject, says
from lora_operator.informers.informer import Informer
from lora_operator.informers.records import key_of, version_of
from lora_operator.informers.scopes import Scope
from lora_operator.kube.client import FIELD_MANAGER, MERGE, Kube, KubeError
from lora_operator.kube.preconditions import Right
from lora_operator.kube.write_queue import Priority, Writes

LABEL = f"{GROUP}/export"
AS_US = {"fieldManager": FIELD_MANAGER}

Json = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Kind:
    """`group` and `version` of the API, and what it calls the objects; `label`: the value of the label on ours."""

    kind: str
    plural: str
    group: str
    version: str
    label: str

    @property
    def base(self) -> str:
        return f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"

    def body(self, metadata: Json, content: Json) -> dict[str, Any]:
        """An object of ours."""
        version = f"{self.group}/{self.version}" if self.group else self.version
        labels = {**metadata.get("labels", {}), LABEL: self.label}
        return {"apiVersion": version, "kind": self.kind, "metadata": {**metadata, "labels": labels}, **content}

    def is_ours(self, body: Json) -> bool:
        return (body["metadata"].get("labels") or {}).get(LABEL) == self.label

    def scopes(self, namespaces: tuple[str, ...]) -> list[Scope]:
        """What shows all of ours in these namespaces; none means all."""
        return [Scope(self.base, self.plural, namespace, f"{LABEL}={self.label}") for namespace in namespaces or ("",)]

    def rights(self, namespaces: tuple[str, ...], *, kept: bool) -> list[Right]:
        """What it takes to keep them, or to remove them."""
        verbs = ("get", "list", "watch", "delete", *(("create", "patch") if kept else ()))
        return [Right(verb, self.plural, self.group, namespace) for namespace in namespaces or ("",) for verb in verbs]


def of_adapter(namespace: str, name: str, resource: str, uid: str) -> dict[str, Any]:
    """Metadata of an object that goes with a LoraAdapter."""
    owner = {"apiVersion": f"{GROUP}/{VERSION}", "kind": "LoraAdapter", "name": resource, "uid": uid}
    return {"name": name, "namespace": namespace, "ownerReferences": [owner]}


class OwnObjects:
    """`wanted` says what an object (by key) should be, None where there should be none; `look` at a key when that may
    have changed. `taken` is told of a key that somebody else's object has, `seen` of one that has come
    or gone. Nothing is written before it is known what there is, of those that it comes `after` as well."""

    def __init__(
        self, kube: Kube, kind: Kind, namespaces: tuple[str, ...], writes: Writes,
        wanted: Callable[[str], Json | None], *, relist_seconds: float,
        taken: Callable[[str], None] = lambda key: None, seen: Callable[[str], None] = lambda key: None,
        after: OwnObjects | None = None,
    ) -> None:  # fmt: skip
        self.kind = kind
        self.there: Cache[ExportedObject] = Cache(_read)
        self._kube = kube
        self._writes = writes
        self._wanted = wanted
        self._taken = taken
        self._seen = seen
        self._after = after
        self._informers = [
            Informer(kube, scope, self.there, changed=self._changed, left=self._left, relist_seconds=relist_seconds)
            for scope in kind.scopes(namespaces)
        ]

    @property
    def _synced(self) -> bool:
        others = self._after is None or self._after._synced
        return others and all(informer.synced.is_set() for informer in self._informers)

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            for informer in self._informers:
                group.create_task(informer.run(), name=f"watch {informer.scope}")

    async def until_synced(self) -> None:
        """Until it is known what there is, which is then looked at."""
        for informer in self._informers:
            await informer.synced.wait()
        for item in list(self.there.values()):
            self.look(item.key)

    def look(self, key: str, priority: Priority = Priority.STATUS) -> None:
        """Have the object written if it is not as it should be."""
        if self._synced and not self._is_right(key):
            self.put(key, priority)

    def put(self, key: str, priority: Priority) -> None:
        """The same without comparing it now, which costs what the object is long."""
        if self._synced:
            self._writes.put((self.kind.kind, key), partial(self._write, key), priority)

    async def flush(self, key: str) -> None:
        """See `Writes.flush`."""
        await self._writes.flush((self.kind.kind, key))

    def _is_right(self, key: str) -> bool:
        wanted, there = self._wanted(key), self.there.get(key)
        if wanted is None or there is None:
            return wanted is None and there is None
        return says(there.body, wanted) and _may_become(there.body, wanted)

    def _changed(self, key: str) -> None:
        self.look(key)
        self._seen(key)

    def _left(self, _: Informer[ExportedObject], key: str, body: Json | None, version: int) -> None:
        if self.there.drop(body) if body is not None else self.there.absent(key, version):
            self._changed(key)

    async def _write(self, key: str) -> None:
        """Raises KubeError."""
        wanted, there = self._wanted(key), self.there.get(key)
        if self._is_right(key):
            return
        try:
            await self._make_right(key, wanted, there)
        finally:
            if self._wanted(key) != wanted:  # while the write was under way, what was there looked right
                self.look(key)

    async def _make_right(self, key: str, wanted: Json | None, there: ExportedObject | None) -> None:
        if there is None:
            if wanted is not None:
                await self._create(key, wanted)
        elif wanted is None or not _may_become(there.body, wanted):
            await self._delete(there)
            if wanted is not None:
                await self._create(key, wanted)
        else:
            metadata = {**wanted["metadata"], "uid": there.uid}  # never another that has its name by now
            change = {**wanted, "metadata": metadata}
            self.there.put(
                await self._kube.call("PATCH", self._path(key), query=AS_US, body=change, content_type=MERGE)
            )

    async def _create(self, key: str, wanted: Json) -> None:
        namespace = key.partition("/")[0]
        collection = f"{self.kind.base}/namespaces/{namespace}/{self.kind.plural}"
        try:
            self.there.put(await self._kube.call("POST", collection, query=AS_US, body=wanted))
            self._seen(key)
        except KubeError as error:
            if error.status != 409:
                raise
            body = await self._kube.call("GET", self._path(key))
            if self.kind.is_ours(body):
                self.there.put(body)  # the watch is only later than we are
                self._changed(key)
                return
            self._taken(key)
            raise KubeError(409, f"there is a {self.kind.kind} {key} of somebody else, which is left alone") from error

    async def _delete(self, there: ExportedObject) -> None:
        try:
            await self._kube.call("DELETE", self._path(there.key), body={"preconditions": {"uid": there.uid}})
        except KubeError as error:
            if error.status not in (404, 409):  # gone, or another by now: the watch will tell
                raise
        self.there.drop(there.body)
        self._seen(there.key)

    def _path(self, key: str) -> str:
        namespace, _, name = key.partition("/")
        return f"{self.kind.base}/namespaces/{namespace}/{self.kind.plural}/{name}"


def _may_become(there: Json, wanted: Json) -> bool:
    """Whether the API server lets it: a Service cannot be given, or lose, its address."""
    headless = (body.get("spec", {}).get("clusterIP") == "None" for body in (there, wanted))
    return len(set(headless)) == 1


def _read(body: Json) -> ExportedObject:
    return ExportedObject(key_of(body), body["metadata"]["uid"], version_of(body), body)
