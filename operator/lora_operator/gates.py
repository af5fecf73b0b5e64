"""Whether a pod may take traffic as far as its adapters go, and the readiness gate of pods that declare it.

Verdicts are for the agents of pods, whose readiness probe acts on them, and for pods that have the gate instead. A gate
opens once the pod holds what the plan gives it, or when waiting is of no use, or after a deadline. It closes for an
engine that starts anew, while the pod is not Ready anyway: nothing that serves is ever taken out of its Service by it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from lora_operator.kube import Kube, KubeError
from lora_operator.observe.cluster import Cluster, PodRecord
from lora_operator.observe.engines import incarnation_of
from lora_operator.settings import GATE
from lora_operator.writes import NotSo, Priority, Writes
from lora_scheduler import Plan, Pod, Reason, ResidentState, Snapshot

MESSAGE_MAX = 900
NAMED_MAX = 5
WRITE = "readiness gate"  # in the queue of writes
# such a pod serves its base model at best: nothing is gained by keeping it from doing that
_FOR_GOOD = frozenset({Reason.INVALID_POD_LIMITS, Reason.LORA_DISABLED, Reason.UNAUTHORIZED})


@dataclass(frozen=True, slots=True)
class Verdict:
    """`answers`: the operator can ask the engine, so that this will change as adapters are loaded."""

    is_open: bool
    reason: str
    message: str
    answers: bool = True


def undecided(pods: Mapping[str, PodRecord]) -> set[str]:
    """The pods whose agent or gate has something to learn: those that are not Ready."""
    return {key for key, record in pods.items() if not record.pod.ready and (record.gated or record.pod.agent_port)}


def verdicts(snapshot: Snapshot, plan: Plan, keys: Collection[str]) -> dict[str, Verdict]:
    """How it is with these pods; nothing of those that are ending."""
    if not keys:
        return {}
    assigned: dict[str, set[str]] = {}
    for adapter, where in plan.assignments.items():
        for key in where:
            if key in keys:
                assigned.setdefault(key, set()).add(adapter)
    return {
        pod.key: _verdict(pod, assigned.get(pod.key, set()))
        for pod in snapshot.pods
        if pod.key in keys and not pod.draining
    }


def _verdict(pod: Pod, assigned: Collection[str]) -> Verdict:
    if pod.not_ready is not None and pod.not_ready[0] in _FOR_GOOD:
        why = f"no adapter can be loaded: {pod.not_ready[1]}"
        return Verdict(True, str(pod.not_ready[0]), why[:MESSAGE_MAX], answers=False)
    if not pod.ready:
        return Verdict(False, "EngineNotReady", "its engine does not answer yet", answers=False)
    loaded = {resident.adapter for resident in pod.residents if resident.state is ResidentState.LOADED}
    lacking = sorted(adapter for adapter in assigned if adapter not in loaded and adapter not in pod.excluded)
    if lacking:
        names = ", ".join(adapter.rpartition("/")[2] for adapter in lacking[:NAMED_MAX])
        more = f" and {len(lacking) - NAMED_MAX} more" if len(lacking) > NAMED_MAX else ""
        return Verdict(False, "AdaptersMissing", f"it lacks {names}{more}"[:MESSAGE_MAX])
    failed = [message for reason, message in pod.excluded.values() if reason is Reason.LOAD_FAILED]
    if failed:
        why = f"opened without {len(failed)} adapters that cannot be loaded: {failed[0]}"
        return Verdict(True, str(Reason.LOAD_FAILED), why[:MESSAGE_MAX])
    return Verdict(True, "AdaptersLoaded", "it holds all adapters that are planned for it")


class Gates:
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
        self._up_since: dict[str, tuple[str, float]] = {}  # pod -> which life of its engine, monotonic

    def update(self, found: Mapping[str, Verdict], pods: Mapping[str, PodRecord]) -> None:
        """Open the gates of pods that are not Ready, or close them for an engine that has started anew."""
        gated = {key: pods[key] for key in found if pods[key].gated}
        self._up_since = {key: since for key, since in self._up_since.items() if key in gated}
        before, self._decided = self._decided, {}
        for key, record in gated.items():
            self._decide(record, found[key])
        for key, condition in self._decided.items():
            if before.get(key, {}).get("status") != condition["status"] or (WRITE, key) not in self._writes:
                self._writes.put((WRITE, key), partial(self._write, key), Priority.STATUS)

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
        life, now = incarnation_of(record), time.monotonic()
        known = self._up_since.get(record.key)
        if known is None or known[0] != life:
            known = self._up_since[record.key] = (life, now)
        return now - known[1] > self._deadline_seconds

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
