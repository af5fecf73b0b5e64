"""The readiness gate of pods that declare it: traffic only once a pod holds what the plan gives it.

It opens and stays open for the life of the container's engine, and never blocks for ever: an adapter that cannot be
loaded, or a deadline, opens it with a reason.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from lora_operator.kube import Kube, KubeError
from lora_operator.observe.cluster import Cluster, PodRecord
from lora_operator.settings import GATE
from lora_scheduler import Plan, Reason, ResidentState, Snapshot

log = logging.getLogger(__name__)

DEADLINE_SECONDS = 60.0
RETRY_SECONDS = 1.0
MESSAGE_MAX = 900
# such a pod serves its base model at best: nothing is gained by keeping it from doing that
_FOR_GOOD = frozenset({Reason.INVALID_POD_LIMITS, Reason.LORA_DISABLED, Reason.UNAUTHORIZED})


class Gates:
    """Writes the condition of gated pods."""

    def __init__(self, kube: Kube, cluster: Cluster, changed: Callable[[], None] = lambda: None) -> None:
        self._kube = kube
        self._changed = changed
        self._cluster = cluster
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._up_since: dict[str, float] = {}

    def update(self, snapshot: Snapshot, plan: Plan, pods: Mapping[str, PodRecord]) -> None:
        """Open or close the gate of every gated pod."""
        gated = {key for key, record in pods.items() if record.gated}
        for key in [key for key in self._up_since if key not in gated]:
            del self._up_since[key]
        if not gated:
            return
        assigned: dict[str, set[str]] = {}
        for adapter, where in plan.assignments.items():
            for key in where:
                assigned.setdefault(key, set()).add(adapter)
        for pod in snapshot.pods:
            record = pods.get(pod.key)
            if record is None or not record.gated or pod.key in self._tasks or pod.draining:
                continue
            if pod.not_ready is not None and pod.not_ready[0] in _FOR_GOOD:
                if not record.gate_open:
                    why = f"no adapter can be loaded: {pod.not_ready[1]}"
                    self._write(record, True, str(pod.not_ready[0]), why[:MESSAGE_MAX])
                continue
            if not pod.ready:
                self._up_since.pop(pod.key, None)
                if record.gate_open and not pod.held:
                    self._write(record, False, "EngineNotReady", "its engine does not answer yet")
                continue
            since = self._up_since.setdefault(pod.key, time.monotonic())
            if record.gate_open:
                continue
            loaded = {r.adapter for r in pod.residents if r.state is ResidentState.LOADED}
            lacking = {a for a in assigned.get(pod.key, ()) if a not in loaded and a not in pod.excluded}
            failed = [message for reason, message in pod.excluded.values() if reason is Reason.LOAD_FAILED]
            if failed and not lacking:
                why = f"opened without {len(failed)} adapters that cannot be loaded: {failed[0]}"
                self._write(record, True, str(Reason.LOAD_FAILED), why[:MESSAGE_MAX])
            elif not lacking:
                self._write(record, True, "AdaptersLoaded", "it holds all adapters that are planned for it")
            elif time.monotonic() - since > DEADLINE_SECONDS:
                text = f"opened after {DEADLINE_SECONDS:g} s without {len(lacking)} adapters"
                self._write(record, True, "DeadlinePassed", text)

    async def stop(self) -> None:
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    def _write(self, record: PodRecord, is_open: bool, reason: str, message: str) -> None:
        condition = {
            "type": GATE,
            "status": "True" if is_open else "False",
            "reason": reason,
            "message": message,
            "lastTransitionTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }

        async def run() -> None:
            try:
                pod = record.pod
                body = await self._kube.set_pod_condition(pod.namespace, pod.name, record.uid, condition)
                self._cluster.pods.put(body)
            except KubeError as error:
                if error.status not in (404, 409):
                    log.warning("readiness gate of pod %s was not written, again soon: %s", record.key, error)
                await asyncio.sleep(RETRY_SECONDS)  # also where the pod is gone: the watch will tell
            finally:
                self._tasks.pop(record.key, None)
                self._changed()  # what came in the meantime was left for now

        self._tasks[record.key] = asyncio.create_task(run(), name=f"gate {record.key}")
