"""Tells the owners of adapters, in Events and in the log, what measured demand did to them.

Remembers only what the plan before said: an operator that has just started tells of what changes from then on.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from lora_operator.desired import Desired, Wanted
from lora_operator.events import Recorder
from lora_scheduler import Plan, ReplicaPolicy

log = logging.getLogger(__name__)

SCALED = "ScaledByDemand"


@dataclass(frozen=True, slots=True)
class _Count:
    """How many copies were wanted, and by which generation of the resource."""

    copies: int
    generation: int


class Teller:
    """Ask `round` after every planning round."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._counts: dict[str, _Count] = {}

    def round(self, desired: Desired, plan: Plan) -> None:
        """Compare with the round before."""
        counts: dict[str, _Count] = {}
        for key, wanted in desired.adapters.items():
            adapter = wanted.adapter
            if adapter.replica_policy is not ReplicaPolicy.AUTO:
                continue
            copies = len(plan.assignments.get(key, ())) + plan.missing.get(key, 0)
            now = counts[key] = _Count(copies, _generation(desired, wanted))
            before = self._counts.get(key)
            if before is None or before.copies == copies or before.generation != now.generation:
                continue  # new, the same, or another number was asked for
            demand = "unknown" if adapter.demand is None else f"{adapter.demand:g} requests per second"
            self._tell(
                desired, wanted, SCALED, f"{adapter.name}: {before.copies} -> {copies} copies, its demand is {demand}"
            )
        self._counts = counts

    def _tell(self, desired: Desired, wanted: Wanted, reason: str, text: str) -> None:
        log.info("%s: %s", reason, text, extra={"adapter": wanted.adapter.key})
        resource = desired.resources.get(wanted.resource)
        if resource is not None:
            self._recorder.emit(resource.resource, "Normal", reason, text)


def _generation(desired: Desired, wanted: Wanted) -> int:
    declared = desired.resources.get(wanted.resource)
    return declared.resource.generation if declared is not None else 0
