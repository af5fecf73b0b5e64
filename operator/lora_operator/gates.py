"""The readiness gate of pods that declare it: traffic only once a pod holds what the plan gives it.

It opens and stays open for the life of the container's engine, and never blocks for ever: an adapter that cannot be
loaded, or a deadline, opens it with a reason.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial

from lora_operator.kube import Kube, KubeError
from lora_operator.observe.cluster import Cluster, PodRecord
from lora_operator.settings import GATE
from lora_operator.writes import NotSo, Priority, Writes
from lora_scheduler import Plan, Reason, ResidentState, Snapshot

DEADLINE_SECONDS = 60.0
MESSAGE_MAX = 900
WRITE = "readiness gate"  # in the queue of writes
# such a pod serves its base model at best: nothing is gained by keeping it from doing that
_FOR_GOOD = frozenset({Reason.INVALID_POD_LIMITS, Reason.LORA_DISABLED, Reason.UNAUTHORIZED})


class Gates:
    """Writes the condition of gated pods."""

    def __init__(
        self, kube: Kube, cluster: Cluster, writes: Writes, changed: Callable[[], None] = lambda: None
    ) -> None:
        self._kube = kube
        self._changed = changed
        self._cluster = cluster
        self._writes = writes
        self._decided: dict[str, dict[str, str]] = {}  # conditions, by pod, where they are not so
        self._up_since: dict[str, float] = {}

    def update(self, snapshot: Snapshot, plan: Plan, pods: Mapping[str, PodRecord]) -> None:
        """Open or close the gate of every gated pod."""
        before, self._decided = self._decided, {}
        self._consider(snapshot, plan, pods)
        for key, condition in self._decided.items():
            if before.get(key, {}).get("status") != condition["status"] or (WRITE, key) not in self._writes:
                self._writes.put((WRITE, key), partial(self._write, key), Priority.STATUS)

    def _consider(self, snapshot: Snapshot, plan: Plan, pods: Mapping[str, PodRecord]) -> None:
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
            if record is None or not record.gated or pod.draining:
                continue
            if pod.not_ready is not None and pod.not_ready[0] in _FOR_GOOD:
                if not record.gate_open:
                    why = f"no adapter can be loaded: {pod.not_ready[1]}"
                    self._decide(record, True, str(pod.not_ready[0]), why[:MESSAGE_MAX])
                continue
            if not pod.ready:
                self._up_since.pop(pod.key, None)
                if record.gate_open and not pod.held:
                    self._decide(record, False, "EngineNotReady", "its engine does not answer yet")
                continue
            since = self._up_since.setdefault(pod.key, time.monotonic())
            if record.gate_open:
                continue
            loaded = {r.adapter for r in pod.residents if r.state is ResidentState.LOADED}
            lacking = {a for a in assigned.get(pod.key, ()) if a not in loaded and a not in pod.excluded}
            failed = [message for reason, message in pod.excluded.values() if reason is Reason.LOAD_FAILED]
            if failed and not lacking:
                why = f"opened without {len(failed)} adapters that cannot be loaded: {failed[0]}"
                self._decide(record, True, str(Reason.LOAD_FAILED), why[:MESSAGE_MAX])
            elif not lacking:
                self._decide(record, True, "AdaptersLoaded", "it holds all adapters that are planned for it")
            elif time.monotonic() - since > DEADLINE_SECONDS:
                text = f"opened after {DEADLINE_SECONDS:g} s without {len(lacking)} adapters"
                self._decide(record, True, "DeadlinePassed", text)

    def _decide(self, record: PodRecord, is_open: bool, reason: str, message: str) -> None:
        self._decided[record.key] = {
            "type": GATE,
            "status": "True" if is_open else "False",
            "reason": reason,
            "message": message,
            "lastTransitionTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }

    async def _write(self, key: str) -> None:
        """The condition as the last round decided on it. Raises KubeError."""
        record, condition = self._cluster.pods.get(key), self._decided.get(key)
        if record is None or condition is None or record.gate_open == (condition["status"] == "True"):
            return
        pod = record.pod
        try:
            body = await self._kube.set_pod_condition(pod.namespace, pod.name, record.uid, condition)
        except KubeError as error:
            if error.status == 404:
                return  # gone, and the watch will tell
            raise
        self._cluster.pods.put(body)
        conditions = (body.get("status") or {}).get("conditions") or ()
        if not any(c.get("type") == GATE and c.get("status") == condition["status"] for c in conditions):
            raise NotSo("its conditions lack the readiness gate after the write")
        self._changed()
