"""One planning round, from a snapshot to a plan.

1. Open the accounts: who has what where (fleet).
2. For each adapter: which copies stay (retention).
3. For each pod that is over a limit: who leaves (preemption).
4. For each adapter, highest priority first: places for what it lacks (placement, preemption), the loads that may start
   now (steps), the next step of its update (rollout).
5. Once more for those that still lack copies: step 4 may have freed more room than it needed.
"""

from __future__ import annotations

from dataclasses import dataclass

from lora_scheduler.fleet import Fleet
from lora_scheduler.model import Plan, Policy, Snapshot
from lora_scheduler.placement import fill, grow
from lora_scheduler.policies import POLICIES
from lora_scheduler.preemption import relieve
from lora_scheduler.reasons import reasons
from lora_scheduler.retention import retain
from lora_scheduler.rollout import Rollout, roll_out
from lora_scheduler.steps import Steps, finish, start
from lora_scheduler.validation import check

DEFAULT = Policy()


@dataclass(frozen=True, slots=True)
class Round:
    """All accounts after a planning round."""

    fleet: Fleet
    steps: Steps


def plan(snapshot: Snapshot, policy: Policy = DEFAULT) -> Plan:
    """Decide which pod should hold which adapter, and what can be done about it at once.

    The same snapshot gives the same plan, in whatever order its adapters, pods and residents are listed. In
    `Plan.actions` the unloads come first, by pod and name, then the loads, those of the highest priority first.
    Raises InvalidSnapshot or InvalidPolicy.
    """
    done = work_out(snapshot, policy)
    allotments = done.fleet.allotments
    keys = sorted(allotments)
    lacking = [key for key in keys if allotments[key].missing > 0]
    return Plan(
        assignments={key: tuple(sorted(allotments[key].kept)) for key in keys},
        actions=done.steps.actions,
        waiting=tuple(done.steps.waiting),
        refusals={key: reasons(allotments[key], done.fleet, done.steps) for key in lacking},
        missing={key: allotments[key].missing for key in lacking},
    )


def work_out(snapshot: Snapshot, policy: Policy) -> Round:
    """The round itself; `plan` and `explain` read different things off its result."""
    check(snapshot, policy)
    fleet, steps, scorers = Fleet(snapshot), Steps(), POLICIES[policy.name]
    allotments = fleet.allotments
    rollout = Rollout(fleet, steps, scorers, policy.max_unavailable)
    for allotment in allotments.values():
        retain(allotment)
    for ledger in fleet.pods:
        relieve(ledger, allotments)
    for allotment in allotments.values():
        grow(allotment)
        fill(allotment, allotments, scorers, preempt=allotment.adapter.priority > fleet.lowest_priority)
        start(allotment, fleet, steps)
        roll_out(allotment, rollout)
    for allotment in allotments.values():
        if allotment.missing > 0 and not allotment.moving:
            fill(allotment, allotments, scorers, preempt=False)
            start(allotment, fleet, steps)
    finish(fleet, steps)
    return Round(fleet, steps)
