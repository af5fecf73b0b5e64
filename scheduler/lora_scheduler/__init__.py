"""Placement of LoRA adapters on vLLM pods: `plan(snapshot, policy) -> Plan`, and what explains or tries out a plan.

`Planner(policy)` makes the same plans again and again for one fleet: `plan(snapshot)`, or `update(pods=…)`.

Pure and deterministic: no I/O, no clock, no randomness, no Kubernetes; only Python's standard library.
"""

from lora_scheduler.errors import InvalidPolicy, InvalidSnapshot, PlacementError, UnknownAdapter
from lora_scheduler.explanation import explain
from lora_scheduler.incremental import Planner
from lora_scheduler.model import (
    Adapter,
    Load,
    LoadCause,
    Obstacle,
    Overload,
    Places,
    Plan,
    Pod,
    Policy,
    PreemptionPolicy,
    Reason,
    Refusal,
    ReplicaPolicy,
    Requirement,
    Resident,
    ResidentState,
    Selector,
    Snapshot,
    Unload,
    UnloadCause,
)
from lora_scheduler.planner import plan
from lora_scheduler.queries import AdapterStatus, Schedule, get_adapter_status, get_pod_adapters, schedule_adapter
from lora_scheduler.selectors import matches
from lora_scheduler.simulation import simulate

__all__ = [
    "Adapter",
    "AdapterStatus",
    "InvalidPolicy",
    "InvalidSnapshot",
    "Load",
    "LoadCause",
    "Obstacle",
    "Overload",
    "PlacementError",
    "Places",
    "Plan",
    "Planner",
    "Pod",
    "Policy",
    "PreemptionPolicy",
    "Reason",
    "Refusal",
    "ReplicaPolicy",
    "Requirement",
    "Resident",
    "ResidentState",
    "Schedule",
    "Selector",
    "Snapshot",
    "UnknownAdapter",
    "Unload",
    "UnloadCause",
    "explain",
    "get_adapter_status",
    "get_pod_adapters",
    "matches",
    "plan",
    "schedule_adapter",
    "simulate",
]
