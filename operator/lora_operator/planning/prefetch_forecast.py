"""Which files should be brought early, because a load of them is to come. No effects.

A replica that waits for room will be loaded as soon as there is some. An engine that starts takes minutes, its agent a
second: what the pod would get if it were ready now is what it will get then.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace

from lora_scheduler import Load, Plan, Pod, Reason, Snapshot

MOST_WORK = 200_000  # adapters × pods: beyond it, a second plan costs more than early files give
Early = tuple[str, str]  # pod, adapter


class Forecast:
    """Makes the second plan once for each set of starting pods and wanted versions, not in every round."""

    def __init__(self, plan: Callable[[Snapshot], Plan]) -> None:
        self._plan = plan
        self._made_for: object = None
        self._loads: frozenset[Early] = frozenset()

    def early(self, snapshot: Snapshot, made: Plan, starting: Collection[str]) -> list[Early]:
        """What to bring, the most asked-for first. `starting` are pods that can take files and whose engines start."""
        found = {(load.pod, load.adapter) for load, why in made.waiting if why.reason is Reason.WAITING_FOR_ROOM}
        found |= self._at_start(snapshot, frozenset(starting))
        if not found:
            return []  # as in nearly every round
        rank = {
            adapter.key: (-(adapter.demand or 0.0), -adapter.effective_priority, adapter.age_rank)
            for adapter in snapshot.adapters
        }
        return sorted((early for early in found if early[1] in rank), key=lambda early: (rank[early[1]], early))

    def _at_start(self, snapshot: Snapshot, starting: frozenset[str]) -> frozenset[Early]:
        if not starting or len(snapshot.adapters) * len(snapshot.pods) > MOST_WORK:
            return frozenset()
        made_for = (starting, frozenset((adapter.key, adapter.version) for adapter in snapshot.adapters))
        if made_for != self._made_for:
            then = replace(snapshot, pods=tuple(_started(pod, starting) for pod in snapshot.pods))
            loads = (action for action in self._plan(then).actions if isinstance(action, Load))
            self._loads = frozenset((load.pod, load.adapter) for load in loads if load.pod in starting)
            self._made_for = made_for
        return self._loads


def _started(pod: Pod, starting: Collection[str]) -> Pod:
    return replace(pod, ready=True, not_ready=None) if pod.key in starting else pod
