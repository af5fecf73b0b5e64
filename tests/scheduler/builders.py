"""Small builders for snapshots: every argument has a default that makes the object harmless."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from lora_scheduler import (
    Adapter,
    Load,
    LoadCause,
    Plan,
    Pod,
    Policy,
    Reason,
    Resident,
    ResidentState,
    Snapshot,
    Unload,
    UnloadCause,
    plan,
    simulate,
)

GIB = 1 << 30
LOADING = ResidentState.LOADING
UNLOADING = ResidentState.UNLOADING


def an_adapter(key: str = "a", **fields: Any) -> Adapter:
    given = {"name": key, "base_model": "llama", "version": "v1", "bytes": GIB, "rank": 8} | fields
    return Adapter(key, **given)


def a_pod(key: str = "p1", *, slots: int = 4, memory: float | None = None, **fields: Any) -> Pod:
    """`memory` is in GiB."""
    budget = None if memory is None else int(memory * GIB)
    given = {"base_model": "llama", "host_slots": slots, "max_rank": 16, "memory_bytes": budget} | fields
    return Pod(key, **given)


def a_replica(adapter: Adapter | str = "a", /, **fields: Any) -> Resident:
    """A resident that is a replica of an adapter, at its version unless another is given."""
    of = an_adapter(adapter) if isinstance(adapter, str) else adapter
    given = {"name": of.name, "bytes": of.bytes, "rank": of.rank, "adapter": of.key, "version": of.version} | fields
    return Resident(**given)


def a_foreigner(name: str = "theirs", **fields: Any) -> Resident:
    return Resident(**({"name": name, "bytes": GIB, "rank": 8, "owned": False} | fields))


def holding(pod: Pod, *residents: Resident) -> Pod:
    return replace(pod, residents=(*pod.residents, *residents))


def a_snapshot(*objects: Adapter | Pod) -> Snapshot:
    return Snapshot(
        tuple(o for o in objects if isinstance(o, Adapter)), tuple(o for o in objects if isinstance(o, Pod))
    )


def plan_for(*objects: Adapter | Pod, policy: Policy | None = None) -> Plan:
    return plan(a_snapshot(*objects), policy or Policy())


def loads(made: Plan) -> list[tuple[str, str]]:
    """(adapter, pod) of every load."""
    return sorted((action.adapter, action.pod) for action in made.actions if isinstance(action, Load))


def unloads(made: Plan) -> list[tuple[str, str]]:
    """(engine name, pod) of every unload."""
    return sorted((action.name, action.pod) for action in made.actions if isinstance(action, Unload))


def load_causes(made: Plan) -> set[LoadCause]:
    return {action.cause for action in made.actions if isinstance(action, Load)}


def unload_causes(made: Plan) -> set[UnloadCause]:
    return {action.cause for action in made.actions if isinstance(action, Unload)}


def reason_on(made: Plan, pod: str, adapter: str = "a") -> Reason:
    return next(refusal.reason for refusal in made.refusals[adapter] if refusal.pod == pod)


def message_on(made: Plan, pod: str, adapter: str = "a") -> str:
    return next(refusal.message for refusal in made.refusals[adapter] if refusal.pod == pod)


def run(snapshot: Snapshot, policy: Policy | None = None, *, rounds: int = 40) -> tuple[Snapshot, list[Plan]]:
    """Plan and simulate until there is nothing to do; the plans that had actions come along."""
    plans: list[Plan] = []
    for _ in range(rounds):
        made = plan(snapshot, policy or Policy())
        if not made.actions:
            return snapshot, plans
        plans.append(made)
        snapshot = simulate(snapshot, made, settle=True)
    raise AssertionError(f"still acting after {rounds} rounds: {plans[-1].actions}")


def where(snapshot: Snapshot, adapter: str = "a", version: str | None = None) -> list[str]:
    """The pods that hold the adapter, by key."""
    return sorted(
        pod.key
        for pod in snapshot.pods
        if any(r.adapter == adapter and r.owned and version in (None, r.version) for r in pod.residents)
    )
