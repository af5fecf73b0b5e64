"""Labels of the nodes that pods run on, for spread. Read once per node and again now and then: they hardly change."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from types import MappingProxyType

from lora_operator.informers.cache import Cluster
from lora_operator.kube.client import Kube, KubeError

log = logging.getLogger(__name__)

AGAIN_SECONDS = 600.0
RETRY_SECONDS = 5.0


class Nodes:
    """Fills `cluster.node_labels` for the nodes that are followed."""

    def __init__(self, kube: Kube, cluster: Cluster, changed: Callable[[], None]) -> None:
        self._kube = kube
        self._cluster = cluster
        self._changed = changed
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._due: dict[str, float] = {}
        self._refused = False
        self._pauses: dict[str, float] = {}  # until the next try, of those that could not be read

    def sync_targets(self, names: set[str]) -> None:
        """Know the labels of exactly these nodes."""
        for name in [name for name in self._due if name not in names]:
            self._cluster.node_labels.pop(name, None)
            del self._due[name]
            self._pauses.pop(name, None)
        now = time.monotonic()
        for name in names:
            if name not in self._tasks and self._due.get(name, 0.0) <= now:
                self._tasks[name] = asyncio.create_task(self._read(name), name=f"node {name}")

    async def first_reads(self, timeout: float) -> None:
        """Wait for what is being read just now: replicas placed by unknown labels would stay where they are."""
        if self._tasks:
            await asyncio.wait(set(self._tasks.values()), timeout=timeout)

    async def stop(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _read(self, name: str) -> None:
        try:
            body = await self._kube.node(name)
            self._refused = False
            labels = dict(body["metadata"].get("labels") or {})
            self._due[name] = time.monotonic() + AGAIN_SECONDS
            self._pauses.pop(name, None)
            if self._cluster.node_labels.get(name) != labels:
                self._cluster.node_labels[name] = MappingProxyType(labels)
                self._changed()
        except KubeError as error:
            pause = self._pauses.get(name, RETRY_SECONDS)
            self._due[name] = time.monotonic() + pause
            # one that is away will be back; an API server that has just started refuses everything, but not for long
            self._pauses[name] = min(2 * pause, AGAIN_SECONDS) if error.status in (403, 404) else RETRY_SECONDS
            if error.status != 403:
                log.warning("labels of node %s are unknown, replicas are not spread by them: %s", name, error)
            elif not self._refused:  # one line, however many nodes there are
                log.warning("labels of nodes may not be read (rbac.nodes), replicas are not spread by them: %s", error)
            self._refused = self._refused or error.status == 403
        finally:
            self._tasks.pop(name, None)
