"""Whether a pod may take traffic as far as its adapters go. Pure.

Verdicts are for the agents of pods, whose readiness probe acts on them, and for pods with the readiness gate instead.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from lora_operator.informers.records import PodRecord
from lora_scheduler import Plan, Pod, Reason, ResidentState, Snapshot

MESSAGE_MAX = 900


NAMED_MAX = 5


# such a pod serves its base model at best: nothing is gained by keeping it from doing that
_FOR_GOOD = frozenset({Reason.INVALID_POD_LIMITS, Reason.LORA_DISABLED, Reason.WORKERS_LACK_FILES, Reason.UNAUTHORIZED})


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
