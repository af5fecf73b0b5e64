"""Why is this adapter not on that pod? Asked for any adapter, whether it lacks replicas or not."""

from __future__ import annotations

from lora_scheduler.errors import UnknownAdapter
from lora_scheduler.model import Policy, Refusal, Snapshot
from lora_scheduler.planner import DEFAULT, work_out
from lora_scheduler.reasons import reasons


def explain(adapter_key: str, snapshot: Snapshot, policy: Policy = DEFAULT) -> tuple[Refusal, ...]:
    """One refusal per pod, sorted by pod; ALREADY_PLACED where a replica is, or is about to be loaded.

    Raises UnknownAdapter, InvalidSnapshot or InvalidPolicy.
    """
    done = work_out(snapshot, policy)
    allotment = done.fleet.allotments.get(adapter_key)
    if allotment is None:
        raise UnknownAdapter(
            f"adapter {adapter_key!r} is not in the snapshot; ask for one of its {len(snapshot.adapters)}"
        )
    return reasons(allotment, done.fleet, done.steps)
