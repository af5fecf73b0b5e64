"""Writes status, and only when it says something new; tells Events about what changed.

What is good news, or what somebody waits for, is written at once; an intermediate state only if it lasts.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from lora_operator.api.fit import fit
from lora_operator.api.v1alpha1 import ConditionType
from lora_operator.events import Recorder, events_between
from lora_operator.kube import Kube, KubeError
from lora_operator.metrics import Metrics
from lora_operator.observe.cluster import Cluster, Resource, version_of
from lora_operator.status import StatusInput, status_of

log = logging.getLogger(__name__)

RETRY_SECONDS = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
FLUSH_SECONDS = 2.0
SLOW_SECONDS = 10.0  # beyond that, for an API server that is slow: as long as a write may take
PROGRESS_SECONDS = 1.0
TOO_MANY = 429
OUR_CONDITIONS = frozenset(str(kind) for kind in ConditionType)

Status = Mapping[str, Any]


@dataclass(slots=True)
class _Draft:
    """What should be in one resource's status, and the task that sees to it."""

    given: StatusInput
    due: float = 0.0
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    settled: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None
    refused: bool = False  # by an API server that is there


class Publisher:
    """One draft per resource; a draft equal to what the API server has costs nothing."""

    def __init__(
        self,
        kube: Kube,
        cluster: Cluster,
        recorder: Recorder,
        metrics: Metrics,
        *,
        quiet_seconds: float,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._kube = kube
        self._cluster = cluster
        self._recorder = recorder
        self._metrics = metrics
        self._quiet = quiet_seconds
        self._clock = clock
        self._drafts: dict[str, _Draft] = {}
        self._compared: dict[str, tuple[StatusInput, int]] = {}
        self._written_at: dict[str, float] = {}

    def offer(self, resource: Resource, given: StatusInput, now: float) -> None:
        """Say what is so. Written at once if it is Ready, soon if the list of pods shrank, later otherwise."""
        draft = self._drafts.get(resource.key)
        if draft is not None and draft.task is not None:
            # first of all: what was so before something else began to be written has to be written again
            if draft.given != given:
                draft.given = given
                draft.due = min(draft.due, now + self._delay(resource, given))
                draft.wake.set()
            return
        if self._compared.get(resource.key) == (given, resource.version):
            return
        if not self._differs(resource, given):
            self._compared[resource.key] = (given, resource.version)
            return
        draft = _Draft(given, now + self._delay(resource, given))
        self._drafts[resource.key] = draft
        draft.task = asyncio.create_task(self._write(resource.key, draft), name=f"status {resource.key}")

    def forget(self, keys: set[str]) -> None:
        """Keep only these resources in mind."""
        for table in (self._compared, self._written_at):
            for key in [key for key in table if key not in keys]:
                del table[key]

    async def flush(self, key: str) -> None:
        """Wait until what was offered last is written, for a bounded time; one that the API server does not take holds
        nothing up. Raises KubeError where the API server is away: what was said before stands, and is acted on."""
        draft = self._drafts.get(key)
        if draft is None or draft.task is None:
            return
        for seconds in (FLUSH_SECONDS, SLOW_SECONDS):
            draft.due = 0.0
            draft.wake.set()
            try:
                async with asyncio.timeout(seconds):
                    await draft.settled.wait()
                return
            except TimeoutError:
                if draft.refused:
                    log.warning("status of %s could not be written within %g s; going on", key, FLUSH_SECONDS)
                    return
        raise KubeError(0, f"status of {key} could not be written within {FLUSH_SECONDS + SLOW_SECONDS:g} s")

    async def stop(self, grace_seconds: float) -> None:
        """Write what is due, then end."""
        tasks = [draft.task for draft in self._drafts.values() if draft.task is not None]
        for draft in self._drafts.values():
            draft.due = 0.0
            draft.wake.set()
        if tasks:
            await asyncio.wait(tasks, timeout=grace_seconds)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _delay(self, resource: Resource, given: StatusInput) -> float:
        if given.source.ready is not None and all(s.complete for s in given.adapters):
            return 0.0  # Ready, or nothing to wait for
        before = {
            (item.get("pod"), name)
            for item in resource.status.get("podAssignments") or ()
            for name in item.get("adapters") or ()
        }
        after = {(c.pod.partition("/")[2], s.name) for s in given.adapters for c in s.copies}
        if before - after:
            return min(self._quiet, 0.1)
        # while loading goes on for long, its progress is told every second or so
        lately = asyncio.get_running_loop().time() - self._written_at.get(resource.key, -PROGRESS_SECONDS)
        return self._quiet if lately >= PROGRESS_SECONDS else max(self._quiet, PROGRESS_SECONDS - lately)

    def _status(self, resource: Resource, given: StatusInput) -> dict[str, Any]:
        return fit(status_of(given, resource.status, self._clock())).to_dict()

    def _differs(self, resource: Resource, given: StatusInput) -> bool:
        present = dict(resource.status)
        if "conditions" in present:  # those that somebody else put there are theirs
            present["conditions"] = [c for c in present["conditions"] if c.get("type") in OUR_CONDITIONS]
        return self._status(resource, given) != present

    async def _write(self, key: str, draft: _Draft) -> None:
        failures = 0
        loop = asyncio.get_running_loop()
        try:
            while True:
                while (wait := draft.due - loop.time()) > 0:
                    draft.wake.clear()
                    try:
                        async with asyncio.timeout(wait):
                            await draft.wake.wait()
                    except TimeoutError:
                        break
                resource = self._cluster.adapters.get(key)
                if resource is None or not self._differs(resource, draft.given):
                    return
                given, before = draft.given, resource.status
                after = self._status(resource, given)
                try:
                    body = await self._kube.apply_status(resource.namespace, resource.name, resource.uid, after)
                except KubeError as error:
                    if error.status in (404, 409):
                        return  # gone, or another resource has its name by now
                    failures += 1
                    draft.refused = 400 <= error.status < 500 and error.status != TOO_MANY
                    self._metrics.status_write("error")
                    pause = RETRY_SECONDS[min(failures, len(RETRY_SECONDS)) - 1]
                    log.warning("status of %s was not written, again in %g s: %s", key, pause, error)
                    draft.due = loop.time() + pause
                    continue
                failures, draft.refused = 0, False
                self._written_at[key] = loop.time()
                self._metrics.status_write("ok")
                log.debug("status of %s written", key, extra={"resource": key})
                self._cluster.adapters.put(body)
                # as good as it can be: an older definition drops fields that it does not know, each time
                self._compared[key] = (given, version_of(body))
                for event in events_between(before, after):
                    self._recorder.emit(resource, *event)
                if draft.given == given:
                    return
                draft.due = max(draft.due, loop.time())
        finally:
            draft.task = None
            draft.settled.set()
            if self._drafts.get(key) is draft:
                del self._drafts[key]
