"""Keeps the routing table in step with what is known of the API server's objects."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from lora_operator.observe.cluster import Cluster, PodRecord, Resource
from lora_operator.router.derive import PodView, entries_of, merged, pods_named, view_of
from lora_operator.router.entries import Entry
from lora_operator.router.table import Key, RoutingTable

log = logging.getLogger(__name__)

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
        self._pods: dict[str, PodView] = {}
        self._on_pod: dict[str, set[str]] = {}  # pod -> resources whose lines depend on it
        self._named: dict[str, set[str]] = {}  # resource -> pods
        self._said: dict[str, dict[str, Entry]] = {}  # resource -> name -> line
        self._by_key: dict[Key, dict[str, Entry]] = {}  # adapter -> resource -> line
        self._foreseen: dict[str, Mapping[str, Any]] = {}  # resource -> status that is about to be written
        self._dirty = asyncio.Event()

    def foresee(self, news: Iterable[tuple[str, Mapping[str, Any] | None]]) -> None:
        """Take a status for what it will say until None is given for that resource, whatever the object still says."""
        touched: set[Key] = set()
        for key, status in news:
            if status is None:
                self._foreseen.pop(key, None)
            else:
                self._foreseen[key] = status
            touched |= self._derive(key)
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
        dirty = self._changed_pods(pods) | self._changed_resources()
        touched: set[Key] = set()
        for key in dirty:
            touched |= self._derive(key)
        changed = self._put(touched)
        if pods:
            self._pods_changed(pods)
        return changed

    def _put(self, touched: set[Key]) -> int:
        return self._table.update((key, self._line(key)) for key in sorted(touched))

    def _changed_pods(self, changed: set[str]) -> set[str]:
        """Resources whose lines may have to change; adds the pods themselves to `changed`."""
        current = self._cluster.pods
        dirty: set[str] = set()
        for record in current.values():
            if self._records.get(record.key) is record:
                continue
            self._records[record.key] = record
            changed.add(record.key)
            view = view_of(record)
            if self._pods.get(record.key) != view:
                self._pods[record.key] = view
                dirty |= self._on_pod.get(record.key, set())
        if len(self._records) > len(current):
            for key in [key for key in self._records if current.get(key) is None]:
                del self._records[key], self._pods[key]
                changed.add(key)
                dirty |= self._on_pod.get(key, set())
        return dirty

    def _changed_resources(self) -> set[str]:
        current = self._cluster.adapters
        dirty: set[str] = set()
        for resource in current.values():
            if self._resources.get(resource.key) is not resource:
                self._resources[resource.key] = resource
                dirty.add(resource.key)
        if len(self._resources) > len(current):
            for key in [key for key in self._resources if current.get(key) is None]:
                del self._resources[key]
                dirty.add(key)
        return dirty

    def _derive(self, key: str) -> set[Key]:
        """Note what the resource says now; the lines of the table that may have to change."""
        resource = self._resources.get(key)
        if resource is not None and key in self._foreseen:
            resource = replace(resource, status=self._foreseen[key])
        pods, after = self._read(resource) if resource is not None else (set(), {})
        for pod in self._named.pop(key, set()) - pods:
            self._on_pod[pod].discard(key)
            if not self._on_pod[pod]:
                del self._on_pod[pod]
        for pod in pods:
            self._on_pod.setdefault(pod, set()).add(key)
        if pods:
            self._named[key] = pods
        before = self._said.pop(key, {})
        if after:
            self._said[key] = after
        touched: set[Key] = set()
        namespace = key.partition("/")[0]
        for name in before.keys() | after.keys():
            line = after.get(name)
            if before.get(name) == line:
                continue
            adapter = (namespace, name)
            touched.add(adapter)
            said = self._by_key.setdefault(adapter, {})
            said.pop(key, None)
            if line is not None:
                said[key] = line
            if not said:
                del self._by_key[adapter]
        return touched

    def _read(self, resource: Resource) -> tuple[set[str], dict[str, Entry]]:
        """The pods and lines of a resource; none of one whose status breaks the rules of its definition."""
        try:
            return pods_named(resource), entries_of(resource, self._pods.get)
        except Exception:  # one object must not take the table from all others
            log.exception("the status of LoraAdapter %s cannot be read; nothing of it is routed to", resource.key)
            return set(), {}

    def _line(self, key: Key) -> Entry | None:
        said = self._by_key.get(key)
        return merged(said.values()) if said else None
