"""Keeps the routing table in step with what is known of the API server's objects."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, TypeVar

from lora_operator.informers.cache import Cluster
from lora_operator.informers.endpoints import Contents, PodEndpoint
from lora_operator.informers.holdings import NOBODY, Holdings, Touched, news, place_of
from lora_operator.informers.published_status import NO_STATUS
from lora_operator.informers.records import PodRecord, Resource
from lora_operator.router.derive import PodView, Standing, end_of, ends_of, merged, standing, view_of
from lora_operator.router.entries import Endpoint, Entry, Withheld
from lora_operator.router.table import Key, RoutingTable

K = TypeVar("K", str, Key)
End = Endpoint | Withheld | None

LONG_SECONDS = 0.01
LONGEST_PAUSE_SECONDS = 0.05


class Feed:
    """`mark` it when the cluster may have changed; what came together is taken in together.

    `pods_changed` hears the keys of pods that changed, came or went, once the table is as they are.
    """

    def __init__(
        self, cluster: Cluster, table: RoutingTable, pods_changed: Callable[[set[str]], None] = lambda keys: None
    ) -> None:
        self._cluster = cluster
        self._table = table
        self._pods_changed = pods_changed
        self._resources: dict[str, Resource] = {}
        self._records: dict[str, PodRecord] = {}
        self._endpoints: dict[str, PodEndpoint] = {}
        self._pods: dict[str, PodView] = {}
        self._holdings = Holdings()
        self._standing: dict[str, Standing] = {}
        # pod -> name -> what its LoraEndpoint makes of it; a pod that changes costs what it holds, not what all hold
        self._ends: dict[str, dict[str, End]] = {}
        self._said: dict[str, dict[str, Entry]] = {}  # resource -> name -> line
        self._by_key: dict[Key, dict[str, Entry]] = {}  # adapter -> resource -> line
        # what is about to be written: by resource the status, by pod what its LoraEndpoint will say
        self._foreseen: dict[str, Mapping[str, Any]] = {}
        self._foretold: dict[str, Contents] = {}
        self._dirty = asyncio.Event()

    def foresee(
        self,
        statuses: Iterable[tuple[str, Mapping[str, Any] | None]],
        endpoints: Mapping[str, Contents | None] = MappingProxyType({}),
    ) -> None:
        """Take a status for what it will say until None is given for that resource, whatever the object still says; and
        the LoraEndpoints of these pods, until one is given no more or as None."""
        touched: Touched = set()
        for pod in [pod for pod in self._foretold if endpoints.get(pod) is None]:
            del self._foretold[pod]
            touched |= self._set_endpoint(pod)
        for pod, said in endpoints.items():
            if said is not None and self._foretold.get(pod) is not said:
                self._foretold[pod] = said
                touched |= self._set_endpoint(pod)
        for key, status in statuses:
            if status is None:
                self._foreseen.pop(key, None)
            else:
                self._foreseen[key] = status
            touched |= self._set_resource(key)
        self._put(touched)

    def mark(self, *_: object) -> None:
        self._dirty.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            started = time.monotonic()
            self.refresh()
            took = time.monotonic() - started
            # a storm of events on a large fleet must leave time for those who ask
            await asyncio.sleep(0 if took < LONG_SECONDS else min(2 * took, LONGEST_PAUSE_SECONDS))

    def refresh(self) -> int:
        """Take in what differs from what was seen before; returns how many lines of the table changed."""
        pods: set[str] = set()
        touched = self._changed_pods(pods)
        for pod, _ in news(self._cluster.endpoints, self._endpoints):
            touched |= self._set_endpoint(pod)
        for key, _ in news(self._cluster.adapters, self._resources):
            touched |= self._set_resource(key)
        changed = self._put(touched)
        if pods:
            self._pods_changed(pods)
        return changed

    def _changed_pods(self, changed: set[str]) -> Touched:
        """Adapters whose lines may have to change; adds the pods themselves to `changed`."""
        touched: Touched = set()
        for key, record in news(self._cluster.pods, self._records):
            changed.add(key)
            view = view_of(record) if record is not None else None
            if self._pods.get(key) == view:
                continue
            if view is None:
                del self._pods[key]
            else:
                self._pods[key] = view
            self._ends.pop(key, None)
            touched.update(self._holdings.on(key))
        return touched

    def _set_endpoint(self, pod: str) -> Touched:
        """Note what the pod's LoraEndpoint says now, or is about to say."""
        published = self._endpoints.get(pod)
        said = self._foretold.get(pod, published.said if published is not None else None)
        touched = self._holdings.set_endpoint(pod, said)
        ends = self._ends.get(pod, {})
        for _, name in touched:
            ends.pop(name, None)
        if not ends:
            self._ends.pop(pod, None)
        return touched

    def _set_resource(self, key: str) -> Touched:
        """Note what the resource says now, or is about to say."""
        resource = self._resources.get(key)
        if resource is not None and key in self._foreseen:
            resource = replace(resource, status=self._foreseen[key])
        touched = self._holdings.set_status(key, NO_STATUS if resource is None else resource.published)
        self._standing.pop(key, None)
        if resource is not None:
            self._standing[key] = standing(resource)
        known = self._standing[key].known if key in self._standing else {}
        names = self._said.get(key, {}).keys() | known.keys() | self._holdings.of(key).keys()
        return touched | {(key, name) for name in names}

    def _put(self, touched: Touched) -> int:
        """Bring the table's lines of these adapters up to date."""
        adapters: set[Key] = set()
        for resource, name in touched:
            line = self._entry(resource, name)
            said = self._said.get(resource, {})
            if said.get(name) == line:
                continue
            adapter = (resource.partition("/")[0], name)
            adapters.add(adapter)
            _set(self._said, resource, name, line)
            _set(self._by_key, adapter, resource, line)
        return self._table.update((key, self._line(key)) for key in sorted(adapters))

    def _entry(self, resource: str, name: str) -> Entry | None:
        stands = self._standing.get(resource)
        if stands is None:
            return None
        pods = sorted(self._holdings.of(resource).get(name, NOBODY))
        found = self._by_status(resource, pods, name) if self._holdings.by_status(resource) else self._by(pods, name)
        return stands.entry(name, [end for end in found if end is not None])

    def _by(self, pods: Iterable[str], name: str) -> Iterator[End]:
        """What the LoraEndpoints of these pods, which have the adapter, make of it."""
        for pod in pods:
            ends = self._ends.get(pod)
            if ends is None or name not in ends:
                ends = self._worked_out(pod, name)
            yield ends[name]

    def _worked_out(self, pod: str, name: str) -> dict[str, End]:
        bare, view, said = pod.partition("/")[2], self._pods.get(pod), self._holdings.said(pod)
        ends = self._ends.get(pod)
        if ends is None:
            ends = self._ends[pod] = ends_of(bare, said, view) if said is not None else {}
        if name not in ends:
            place = place_of(said, name)
            ends[name] = end_of(bare, place, view) if place is not None else None
        return ends

    def _by_status(self, resource: str, pods: Iterable[str], name: str) -> Iterator[End]:
        for pod in pods:
            place = self._holdings.place(resource, pod, name)
            yield end_of(pod.partition("/")[2], place, self._pods.get(pod)) if place is not None else None

    def _line(self, key: Key) -> Entry | None:
        said = self._by_key.get(key)
        return merged(said.values()) if said else None


def _set(table: dict[K, dict[str, Entry]], key: K, name: str, line: Entry | None) -> None:
    """Put a line, or take it away; tables without lines go."""
    if line is not None:
        table.setdefault(key, {})[name] = line
        return
    lines = table.get(key, {})
    lines.pop(name, None)
    if not lines:
        table.pop(key, None)
