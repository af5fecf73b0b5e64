"""Tells the owners of adapters, in Events and in the log, what measured demand did to them.

Remembers only what the plan before said: an operator that has just started tells of what changes from then on.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from lora_operator.desired.adapters import Desired, DesiredAdapter
from lora_operator.kube.events import Recorder
from lora_scheduler import Load, LoadCause, Obstacle, Plan, ReplicaPolicy, Snapshot

log = logging.getLogger(__name__)

SCALED, REBALANCED, OVERLOADED = "ScaledByDemand", "Rebalanced", "Overloaded"
AGAIN_SECONDS = 60.0  # an adapter's moves are told at most so often


@dataclass(frozen=True, slots=True)
class _Count:
    """How many replicas were wanted, and by which generation of the resource."""

    replicas: int
    generation: int


class ScalingEvents:
    """Ask `round` after every planning round."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._counts: dict[str, _Count] = {}
        self._moved: dict[str, float] = {}
        self._overloads: dict[str, Obstacle] = {}  # by pod

    def round(self, desired: Desired, snapshot: Snapshot, plan: Plan, now: float) -> None:
        """Tell what this plan begins, and what is otherwise than in the plan before; `now` is monotonic."""
        self._scaled(desired, plan)
        self._overloaded(plan)
        moves = [action for action in plan.actions if isinstance(action, Load) and action.cause is LoadCause.MOVE]
        if moves:
            self._rebalanced(desired, snapshot, plan, moves, now)

    def _rebalanced(self, desired: Desired, snapshot: Snapshot, plan: Plan, moves: Sequence[Load], now: float) -> None:
        self._moved = {key: at for key, at in self._moved.items() if now - at < AGAIN_SECONDS}
        for move in moves:
            wanted = desired.adapters.get(move.adapter)
            if wanted is None or move.adapter in self._moved:
                continue
            self._moved[move.adapter] = now
            staying = plan.assignments.get(move.adapter, ())
            leaving = sorted(
                _bare(pod.key)
                for pod in snapshot.pods
                if pod.key not in staying and any(resident.adapter == move.adapter for resident in pod.residents)
            )
            text = f"{wanted.adapter.name} moves to pod {_bare(move.pod)} from {' or '.join(leaving) or 'elsewhere'}"
            self._tell(desired, wanted, REBALANCED, f"{text}, so that load or replicas lie more evenly on the pods")

    def _overloaded(self, plan: Plan) -> None:
        """Say of a pod once why it keeps too much load, and again when that is for another reason; not while it only
        waits for its turn."""
        lasting = [overload for overload in plan.overloads if overload.obstacle is not Obstacle.MOVES_UNDER_WAY]
        obstacles = {overload.pod: overload.obstacle for overload in lasting}
        for overload in lasting:
            if self._overloads.get(overload.pod) is not overload.obstacle:
                log.info("%s: pod %s: %s", OVERLOADED, overload.pod, overload.message, extra={"pod": overload.pod})
        self._overloads = obstacles

    def _scaled(self, desired: Desired, plan: Plan) -> None:
        counts: dict[str, _Count] = {}
        for key, wanted in desired.adapters.items():
            adapter = wanted.adapter
            if adapter.replica_policy is not ReplicaPolicy.AUTO:
                continue
            replicas = len(plan.assignments.get(key, ())) + plan.missing.get(key, 0)
            now = counts[key] = _Count(replicas, _generation(desired, wanted))
            before = self._counts.get(key)
            if before is None or before.replicas == replicas or before.generation != now.generation:
                continue  # new, the same, or another number was asked for
            demand = "unknown" if adapter.demand is None else f"{adapter.demand:g} requests per second"
            self._tell(
                desired,
                wanted,
                SCALED,
                f"{adapter.name}: {before.replicas} -> {replicas} replicas, its demand is {demand}",
            )
        self._counts = counts

    def _tell(self, desired: Desired, wanted: DesiredAdapter, reason: str, text: str) -> None:
        log.info("%s: %s", reason, text, extra={"adapter": wanted.adapter.key})
        resource = desired.resources.get(wanted.resource)
        if resource is not None:
            self._recorder.emit(resource.resource, "Normal", reason, text)


def _generation(desired: Desired, wanted: DesiredAdapter) -> int:
    declared = desired.resources.get(wanted.resource)
    return declared.resource.generation if declared is not None else 0


def _bare(pod: str) -> str:
    return pod.partition("/")[2] or pod
