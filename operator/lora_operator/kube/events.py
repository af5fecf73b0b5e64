"""Kubernetes Events: what changed, said once.

An Event's name follows from what it says, so that neither a repetition nor a restart of the operator says it twice
within the hour.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections import OrderedDict, deque
from datetime import UTC, datetime
from functools import partial
from typing import Any, Protocol

from lora_operator.api.well_known import GROUP, VERSION
from lora_operator.kube.client import Kube, KubeError
from lora_operator.kube.write_queue import Priority, Writes, may_heal

log = logging.getLogger(__name__)

AGAIN_SECONDS = 3600
REMEMBERED = 10_000
PENDING = 5000
MOST_TRIES = 8  # of one that the API server fails over, waiting longer and longer
EVENT = "Event"  # in the queue of writes

Json = dict[str, Any]


class Subject(Protocol):
    """The LoraAdapter that an Event is about."""

    @property
    def key(self) -> str: ...
    @property
    def namespace(self) -> str: ...
    @property
    def name(self) -> str: ...
    @property
    def uid(self) -> str: ...


class Recorder:
    """Writes Events in the background, in order for each object; when there are too many it drops them and says so."""

    def __init__(self, kube: Kube, writes: Writes) -> None:
        self._kube = kube
        self._writes = writes
        self._said: OrderedDict[str, float] = OrderedDict()
        self._pending: dict[str, deque[Json]] = {}  # by resource
        self._tries: dict[str, int] = {}  # by name of an Event that the API server failed to take

    def emit(self, resource: Subject, kind: str, reason: str, message: str) -> None:
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
        if sum(map(len, self._pending.values())) >= PENDING:
            log.warning("too many Events at once; dropped: %s %s", reason, text)
            return
        self._pending.setdefault(resource.key, deque()).append(body)
        self._writes.put((EVENT, resource.key), partial(self._write, resource.key), Priority.EVENT)

    async def _write(self, key: str) -> None:
        """Raises KubeError. An Event that is refused is not tried again, and the next about this object pauses; one
        that the API server fails over gives way to the others."""
        while pending := self._pending.get(key):
            body = pending[0]
            name = body["metadata"]["name"]
            try:
                await self._kube.create_event(body["metadata"]["namespace"], body)
            except KubeError as error:
                pending.popleft()
                tries = self._tries.pop(name, 0) + 1
                if may_heal(error) and error.status < 500:
                    pending.appendleft(body)
                elif may_heal(error) and tries < MOST_TRIES:
                    # what the API server fails over may be this one alone: it must not keep the others from being said
                    self._tries[name] = tries
                    pending.append(body)
                raise
            self._tries.pop(name, None)
            pending.popleft()
        self._pending.pop(key, None)
