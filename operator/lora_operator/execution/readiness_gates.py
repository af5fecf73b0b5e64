"""Whether a pod may take traffic as far as its adapters go, and the readiness gate of pods that declare it.

Verdicts are for the agents of pods, whose readiness probe acts on them, and for pods that have the gate instead. A gate
opens once the pod holds what the plan gives it, or when waiting is of no use, or after a deadline. It closes for an
engine that starts anew, while the pod is not Ready anyway: nothing that serves is ever taken out of its Service by it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import partial

from lora_operator.api.well_known import GATE
from lora_operator.engines.prober import instance_of
from lora_operator.informers.cache import Cluster
from lora_operator.informers.records import PodRecord
from lora_operator.kube.client import Kube, KubeError
from lora_operator.kube.write_queue import NotSo, Priority, Writes
from lora_operator.planning.pod_readiness import Verdict

WRITE = "readiness gate"  # in the queue of writes


class ReadinessGates:
    """Writes the condition of gated pods."""

    def __init__(
        self,
        kube: Kube,
        cluster: Cluster,
        writes: Writes,
        changed: Callable[[], None] = lambda: None,
        *,
        deadline_seconds: float,
    ) -> None:
        self._kube = kube
        self._deadline_seconds = deadline_seconds
        self._changed = changed
        self._cluster = cluster
        self._writes = writes
        self._decided: dict[str, dict[str, str]] = {}  # conditions, by pod, where they are not so
        self._up_since: dict[str, tuple[str, float]] = {}  # pod -> which container instance, monotonic
        self._waiting_until: dict[str, float] = {}  # by pod, monotonic

    def update(self, found: Mapping[str, Verdict], pods: Mapping[str, PodRecord]) -> None:
        """Open the gates of pods that are not Ready, or close them for an engine that has started anew."""
        gated = {key: pods[key] for key in found if pods[key].gated}
        self._waiting_until.clear()
        self._up_since = {key: since for key, since in self._up_since.items() if key in gated}
        before, self._decided = self._decided, {}
        for key, record in gated.items():
            self._decide(record, found[key])
        for key, condition in self._decided.items():
            if before.get(key, {}).get("status") != condition["status"] or (WRITE, key) not in self._writes:
                self._writes.put((WRITE, key), partial(self._write, key), Priority.STATUS)

    def next_deadline(self) -> float | None:
        """Monotonic time at which the first gate opens whatever its pod lacks."""
        return min(self._waiting_until.values(), default=None)

    def _decide(self, record: PodRecord, verdict: Verdict) -> None:
        if record.gate_open:
            if not verdict.is_open and _is_another(record) and not record.pod.containers_ready:
                self._condition(record, False, verdict.reason, verdict.message)
        elif verdict.is_open:
            self._condition(record, True, verdict.reason, verdict.message)
        elif self._waits_too_long(record, verdict):
            text = f"opened after {self._deadline_seconds:g} s, though {verdict.message}"
            self._condition(record, True, "DeadlinePassed", text)

    def _waits_too_long(self, record: PodRecord, verdict: Verdict) -> bool:
        """Since its engine is up, as the operator or the kubelet found it."""
        if not verdict.answers and not record.pod.containers_ready:
            self._up_since.pop(record.key, None)
            return False
        instance, now = instance_of(record), time.monotonic()
        known = self._up_since.get(record.key)
        if known is None or known[0] != instance:
            known = self._up_since[record.key] = (instance, now)
        deadline = known[1] + self._deadline_seconds
        if now < deadline:
            self._waiting_until[record.key] = deadline
        return now >= deadline

    def _condition(self, record: PodRecord, is_open: bool, reason: str, message: str) -> None:
        mark = record.pod.container_mark
        self._decided[record.key] = {
            "type": GATE,
            "status": "True" if is_open else "False",
            "reason": reason,
            # read again as PodRecord.gate_for
            "message": f"{message} (container {mark})" if is_open and mark else message,
            "lastTransitionTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        }

    async def _write(self, key: str) -> None:
        """The condition as the last round decided on it. Raises KubeError."""
        record, condition = self._cluster.pods.get(key), self._decided.get(key)
        if record is None or condition is None or record.gate_open == (condition["status"] == "True"):
            return
        pod = record.pod
        # a pod that has changed meanwhile, and may be Ready by now, is not closed
        only = None if condition["status"] == "True" else record.version
        if only is not None and pod.containers_ready:
            return
        try:
            body = await self._kube.set_pod_condition(pod.namespace, pod.name, record.uid, condition, only)
        except KubeError as error:
            if error.status == 404 or (only is not None and error.status == 409):
                return  # gone, or changed: the watch will tell, and the next round decides again
            raise
        self._cluster.pods.put(body)
        conditions = (body.get("status") or {}).get("conditions") or ()
        if not any(c.get("type") == GATE and c.get("status") == condition["status"] for c in conditions):
            raise NotSo("its conditions lack the readiness gate after the write")
        self._changed()


def _is_another(record: PodRecord) -> bool:
    """Whether the gate was opened for an earlier container than the one that is there."""
    mark = record.pod.container_mark
    return bool(mark) and record.gate_for not in ("", mark)
