"""Kubernetes Events: what changed, said once.

Which Events there are follows from two statuses alone; an Event's name follows from what it says, so that neither a
repetition nor a restart of the operator says it twice within the hour.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections import OrderedDict
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from lora_operator.kube import Kube, KubeError
from lora_operator.observe.cluster import Resource
from lora_operator.settings import GROUP, VERSION

log = logging.getLogger(__name__)

AGAIN_SECONDS = 3600
REMEMBERED = 10_000
QUEUE = 1000

Status = Mapping[str, Any]
Event = tuple[str, str, str]  # type, reason, message


def events_between(before: Status, after: Status) -> list[Event]:
    """What is worth telling about the step from one status to the next."""
    events: list[Event] = []
    known = {(item["name"], item.get("code")) for item in before.get("failedAdapters") or ()}
    for item in after.get("failedAdapters") or ():
        if (item["name"], item.get("code")) not in known:
            events.append(("Warning", item.get("code") or "Failed", f"{item['name']}: {item.get('message', '')}"))
    was, now = _condition(before, "SourceReady"), _condition(after, "SourceReady")
    if now.get("status") == "False" and (was.get("status"), was.get("reason")) != ("False", now.get("reason")):
        events.append(("Warning", str(now.get("reason")), str(now.get("message"))))
    was, now = _condition(before, "Ready"), _condition(after, "Ready")
    if now.get("status") == "True" and was.get("status") != "True":
        events.append(("Normal", "Ready", str(now.get("message"))))
    versions = {item["name"]: item.get("fingerprint") for item in before.get("adapters") or ()}
    for item in after.get("adapters") or ():
        old = versions.get(item["name"])
        if old is not None and old != item.get("fingerprint"):
            text = f"{item['name']} changed at its source: version {old} gives way to {item.get('fingerprint')}"
            events.append(("Normal", "NewVersion", text))
    return events


def _condition(status: Status, kind: str) -> Mapping[str, Any]:
    return next((c for c in status.get("conditions") or () if c.get("type") == kind), {})


class Recorder:
    """Writes Events in the background; when it cannot keep up it drops them and says so."""

    def __init__(self, kube: Kube) -> None:
        self._kube = kube
        self._said: OrderedDict[str, float] = OrderedDict()
        self._queue: asyncio.Queue[tuple[str, dict[str, Any]]] = asyncio.Queue(QUEUE)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = asyncio.create_task(self._send(), name="events")

    async def stop(self) -> None:
        if self._task is not None:
            try:
                async with asyncio.timeout(1.0):
                    await self._queue.join()
            except TimeoutError:
                pass
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def emit(self, resource: Resource, kind: str, reason: str, message: str) -> None:
        """Say this about that resource, unless it was said within the hour."""
        now = time.time()
        text = message[:1000]
        what = f"{resource.uid}\0{reason}\0{text}\0{int(now) // AGAIN_SECONDS}"
        digest = hashlib.sha256(what.encode()).hexdigest()[:16]
        if digest in self._said:
            return
        self._said[digest] = now
        while len(self._said) > REMEMBERED:
            self._said.popitem(last=False)
        stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        body = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{resource.name[:200]}.{digest}", "namespace": resource.namespace},
            "involvedObject": {
                "apiVersion": f"{GROUP}/{VERSION}",
                "kind": "LoraAdapter",
                "name": resource.name,
                "namespace": resource.namespace,
                "uid": resource.uid,
            },
            "type": kind,
            "reason": reason,
            "message": text,
            "source": {"component": "lora-operator"},
            "firstTimestamp": stamp,
            "lastTimestamp": stamp,
            "count": 1,
        }
        try:
            self._queue.put_nowait((resource.namespace, body))
        except asyncio.QueueFull:
            log.warning("too many Events at once; dropped: %s %s", reason, text)

    async def _send(self) -> None:
        while True:
            namespace, body = await self._queue.get()
            try:
                await self._kube.create_event(namespace, body)
            except KubeError as error:
                log.warning("Event %s was not written: %s", body["reason"], error)
            finally:
                self._queue.task_done()
