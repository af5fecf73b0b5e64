"""Keeps a Service with EndpointSlices for each adapter of the routing table."""

from __future__ import annotations

from collections.abc import Iterator

from lora_operator.exports.own_objects import Json, OwnObjects
from lora_operator.exports.services import (
    SERVICES,
    SLICES,
    export_name,
    service,
    service_of,
    slice_name,
    slice_names,
    slices,
)
from lora_operator.informers.cache import Cluster
from lora_operator.informers.records import Resource
from lora_operator.kube.client import Kube
from lora_operator.kube.events import Recorder
from lora_operator.kube.write_queue import Priority, Writes
from lora_operator.router.entries import Entry
from lora_operator.router.table import RoutingTable


class AdapterServices:
    """See `exports.exports.Export`. `style`: ClusterIP or Headless; None: there should be none, and what is left of
    them is removed."""

    def __init__(
        self, kube: Kube, cluster: Cluster, table: RoutingTable, writes: Writes, recorder: Recorder,
        namespaces: tuple[str, ...], *, style: str | None, relist_seconds: float,
    ) -> None:  # fmt: skip
        self._cluster = cluster
        self._table = table
        self._recorder = recorder
        self._style = style
        self._names: dict[str, str] = {}  # by key of a Service, the adapter that it is for
        self._services = OwnObjects(
            kube, SERVICES, namespaces, writes, self._service, taken=self._name_taken, seen=self._look_at_slices,
            relist_seconds=relist_seconds,
        )  # fmt: skip
        self._slices = OwnObjects(
            kube, SLICES, namespaces, writes, self._slice, after=self._services, relist_seconds=relist_seconds
        )
        self.objects = (self._services, self._slices)

    def look(self, before: Entry | None, after: Entry | None) -> None:
        """An adapter's line in the table is another one, or is there for the first time."""
        entry = after or before
        if entry is None or self._style is None:
            return
        if before is not None and after is not None and _leads_to(before) == _leads_to(after):
            return
        key = f"{entry.namespace}/{export_name(entry.name)}"
        if after is None:
            self._names.pop(key, None)
        else:
            self._names[key] = entry.name
        self._services.look(key)
        fewer = before is not None and (after is None or len(after.endpoints) < len(before.endpoints))
        for name in {name for one in (before, after) if one is not None for name in slice_names(one)}:
            self._slices.put(f"{entry.namespace}/{name}", Priority.WITHDRAWAL if fewer else Priority.STATUS)

    async def flush(self, pod: str, name: str) -> None:
        """Wait until it is written that the pod does not answer for the adapter. Raises KubeError."""
        record, namespace = self._cluster.pods.get(pod), pod.partition("/")[0]
        if record is not None and record.pod.ip:
            first = slice_name(export_name(name), record.pod.ip, record.pod.port)
            for key in self._parts(f"{namespace}/{first}"):
                await self._slices.flush(key)

    def _parts(self, first: str) -> Iterator[str]:
        yield first
        part = 1
        while self._slices.there.get(f"{first}-{part}") is not None:
            yield f"{first}-{part}"
            part += 1

    def _of(self, key: str) -> tuple[Entry, Resource] | None:
        """What the Service of this key is for."""
        namespace, name = key.partition("/")[0], self._names.get(key)
        entry = self._table.get(namespace, name) if name is not None else None
        resource = self._cluster.adapters.get(f"{namespace}/{entry.resource}") if entry is not None else None
        return (entry, resource) if entry is not None and resource is not None else None

    def _service(self, key: str) -> Json | None:
        found = self._of(key)
        if found is None or self._style is None or (found[1].deleted_at and self._services.there.get(key) is None):
            return None
        return service(found[0], found[1].uid, self._style)

    def _slice(self, key: str) -> Json | None:
        """Nothing where the Service is not ours: its owner's requests would come to our pods."""
        namespace, _, name = key.partition("/")
        of = f"{namespace}/{service_of(name)}"
        found = self._of(of)
        if found is None or self._services.there.get(of) is None:
            return None
        return slices(found[0], found[1].uid, self._cluster.pods.get).get(name)

    def _look_at_slices(self, service: str) -> None:
        """A Service of ours has come or gone."""
        found = self._of(service)
        if found is not None:
            for name in slice_names(found[0]):
                self._slices.look(f"{found[0].namespace}/{name}")

    def _name_taken(self, key: str) -> None:
        if (found := self._of(key)) is not None:
            self._recorder.emit(
                found[1], "Warning", "ServiceNameTaken",
                f"adapter {found[0].name} has no Service: there is a {key.partition('/')[2]} of somebody else, "
                "which is left alone; rename that, or the adapter",
            )  # fmt: skip


def _leads_to(entry: Entry) -> tuple[object, ...]:
    return entry.endpoints, entry.resource
