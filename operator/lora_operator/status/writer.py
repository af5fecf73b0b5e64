"""Says in status what is so, and only when that is new; tells Events about what changed.

What is good news, or what somebody waits for, is written at once; an intermediate state only if it lasts.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any

from lora_operator.api.fit import fit
from lora_operator.api.v1alpha1 import ConditionType
from lora_operator.api.well_known import FINALIZER
from lora_operator.informers.cache import Cluster
from lora_operator.informers.records import Resource, asks_the_same
from lora_operator.kube.client import Kube, KubeError
from lora_operator.kube.events import Recorder
from lora_operator.kube.own_writes import LORA_ADAPTER, OwnWrites
from lora_operator.kube.write_queue import FINALIZER_WRITE, Priority, Writes
from lora_operator.status.aggregate import StatusInput, status_of
from lora_operator.status.change_events import events_between
from lora_operator.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

PROGRESS_SECONDS = 1.0
PROGRESS_PER_SECOND, LONGEST_WAIT_SECONDS = 20.0, 10.0  # while much else is to be written
OUR_CONDITIONS = frozenset(str(kind) for kind in ConditionType)
FEW = 8  # that are news at the same time
RELEASE_SECONDS = 2.0  # what is about to be gone is there no more
STATUS = "status"  # in the queue of writes

Status = Mapping[str, Any]


class StatusWriter:
    """What was offered last is written; what is as the API server has it costs nothing."""

    def __init__(
        self,
        kube: Kube,
        cluster: Cluster,
        writes: Writes,
        recorder: Recorder,
        metrics: Metrics,
        *,
        quiet_seconds: float,
        own_writes: OwnWrites | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._kube = kube
        self._cluster = cluster
        self._writes = writes
        self._recorder = recorder
        self._metrics = metrics
        self._quiet = quiet_seconds
        self._own_writes = own_writes or OwnWrites()
        self._clock = clock
        self._offered: dict[str, tuple[str, StatusInput]] = {}  # and not written yet, with the uid of whom it is about
        # what needs no writing: who has this status and was given so much. An older CRD drops fields that it does not
        # know, each time: that is as good as it can be
        self._settled: dict[str, tuple[Status, StatusInput]] = {}
        self._written_at: dict[str, float] = {}

    def offer(self, resource: Resource, given: StatusInput, now: float, together: int = 1) -> None:
        """Say what is so. Written at once if it is Ready, soon if the list of pods shrank, later otherwise: `together`
        with how many others it is news."""
        key = resource.key
        waits = self._offered.get(key)
        if waits is None and self._settled.get(key) == (resource.status, given):
            return
        if waits == (resource.uid, given):
            return
        self._offered[key] = resource.uid, given
        self._writes.put((STATUS, key), partial(self._write, key), *self._urgency(resource, given, now, together))

    def forget(self, keys: set[str]) -> None:
        """Keep only these resources in mind."""
        for table in (self._offered, self._settled, self._written_at):
            for key in [key for key in table if key not in keys]:
                del table[key]

    async def flush(self, key: str) -> None:
        """Wait until what was offered last is written: see `Writes.flush`. Raises KubeError."""
        await self._writes.flush((STATUS, key))

    def _urgency(self, resource: Resource, given: StatusInput, now: float, together: int) -> tuple[Priority, float]:
        """Its place among other writes, and after how many seconds at most."""
        if given.source.ready is not None and all(s.complete for s in given.adapters):
            return Priority.STATUS, 0.0  # Ready, or nothing to wait for
        before = {(item.pod, name) for item in resource.published.pod_assignments for name in item.adapters}
        after = {(c.pod.partition("/")[2], s.name) for s in given.adapters for c in s.replicas}
        many = max(len(self._writes), together if together > FEW else 0)
        if resource.deleted_at is not None and many > FEW:  # most are gone before anybody would get to read that
            return Priority.PROGRESS, max(self._quiet, LONGEST_WAIT_SECONDS)
        if before - after:
            return Priority.STATUS, min(self._quiet, 0.1)
        # while loading goes on for long, its progress is told every second or so
        lately = now - self._written_at.get(resource.key, -PROGRESS_SECONDS)
        wait = self._quiet if lately >= PROGRESS_SECONDS else max(self._quiet, PROGRESS_SECONDS - lately)
        # where much is to be written, most of it is Ready before its progress would be told
        return Priority.PROGRESS, max(wait, min(many / PROGRESS_PER_SECOND, LONGEST_WAIT_SECONDS))

    async def _write(self, key: str) -> None:
        """What was offered last, where it differs from what is there. Raises KubeError."""
        resource, offered = self._cluster.adapters.get(key), self._offered.get(key)
        if resource is None or offered is None or offered[0] != resource.uid:  # of a predecessor it would be wrong
            self._offered.pop(key, None)
            return
        given = offered[1]
        if self._is_released(resource):
            self._writes.put((STATUS, key), partial(self._write, key), Priority.STATUS, RELEASE_SECONDS)
            return
        before = kept = resource.status
        after = fit(status_of(given, before, self._clock())).to_dict()
        if after != _ours(before):
            try:
                with self._own_writes.writing((LORA_ADAPTER, key)) as own:
                    body = await self._kube.apply_status(resource.namespace, resource.name, resource.uid, after)
                    kept = self._wrote(key, body)
                    known = self._cluster.adapters.get(key)
                    same = known is not None and asks_the_same(resource, known)
                    own.news = not same or not self._cluster.adapters.is_at(body)
            except KubeError as error:
                if error.status != 404:  # gone, and the watch will tell
                    self._metrics.status_write("error")
                    raise
            else:
                for event in events_between(before, after):
                    self._recorder.emit(resource, *event)
        self._settled[key] = (kept, given)
        if self._offered.get(key) is offered:
            del self._offered[key]

    def _is_released(self, resource: Resource) -> bool:
        """Whether no engine has anything of it any more and the next write makes it go: nobody would get to read it."""
        last, release = resource.finalizers == (FINALIZER,), (FINALIZER_WRITE, resource.key)
        is_next = release in self._writes and self._writes.pausing(release) is None
        return last and resource.deleted_at is not None and is_next

    def _wrote(self, key: str, body: Mapping[str, Any]) -> Status:
        """Returns the status as it is now; the very object that the cache has, which compares at once."""
        self._written_at[key] = asyncio.get_running_loop().time()
        self._metrics.status_write("ok")
        log.debug("status of %s written", key, extra={"resource": key})
        self._cluster.adapters.put(body)
        known = self._cluster.adapters.get(key)
        if known is not None and self._cluster.adapters.is_at(body):
            return known.status
        return body.get("status") or {}


def _ours(status: Status) -> Status:
    """Without the conditions that somebody else put there."""
    if "conditions" not in status:
        return status
    return {**status, "conditions": [c for c in status["conditions"] if c.get("type") in OUR_CONDITIONS]}
