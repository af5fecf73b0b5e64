"""Refuses snapshots and policies that contradict themselves, before anything is decided on them."""

from __future__ import annotations

import math
from collections.abc import Iterable

from lora_scheduler.errors import InvalidPolicy, InvalidSnapshot
from lora_scheduler.model import (
    YIELDING,
    Adapter,
    Pod,
    Policy,
    PreemptionPolicy,
    Reason,
    ReplicaPolicy,
    ResidentState,
    Selector,
    Snapshot,
)
from lora_scheduler.policies import POLICIES
from lora_scheduler.selectors import OPERATORS


def check(snapshot: Snapshot, policy: Policy) -> None:
    """Raise InvalidSnapshot or InvalidPolicy, naming the object; otherwise do nothing."""
    if policy.name not in POLICIES:
        raise InvalidPolicy(f"policy {policy.name!r} does not exist; use one of {', '.join(sorted(POLICIES))}")
    if not isinstance(policy.max_unavailable, int) or policy.max_unavailable < 1:
        raise InvalidPolicy(
            f"max_unavailable is {policy.max_unavailable!r}: no update could proceed; use a whole number, 1 or more"
        )
    if not isinstance(policy.max_surge, int) or policy.max_surge < 0:
        raise InvalidPolicy(
            f"max_surge is {policy.max_surge!r}; use a whole number, 0 for no surge beside other replicas"
        )
    epsilon, moves = policy.rebalance_epsilon, policy.max_moves
    if epsilon is not None and not _is_at_least_zero(epsilon):
        raise InvalidPolicy(f"rebalance_epsilon is {epsilon}; use 0.1 for loads up to 10 % above the mean, or None")
    if moves is not None and (not isinstance(moves, int) or moves < 0):
        raise InvalidPolicy(f"max_moves is {moves!r}; use 0 or more")
    if not _is_at_least_zero(policy.demand_half_life):
        raise InvalidPolicy(f"demand_half_life is {policy.demand_half_life}; use seconds, or 0 if demand is exact")
    if not _is_at_least_zero(policy.hot_share) or policy.hot_share == 0:
        raise InvalidPolicy(f"hot_share is {policy.hot_share}; use a part of a pod's mean load above 0, such as 0.5")
    _check_keys("adapter", (adapter.key for adapter in snapshot.adapters))
    _check_keys("pod", (pod.key for pod in snapshot.pods))
    for adapter in snapshot.adapters:
        _check_adapter(adapter)
    for pod in snapshot.pods:
        _check_pod(pod)


def _check_keys(kind: str, keys: Iterable[str]) -> None:
    seen: set[str] = set()
    for key in keys:
        if not _is_text(key):
            raise InvalidSnapshot(
                f"a key of {kind} {key!r} is not possible; give each {kind} a text of at least one letter"
            )
        if key in seen:
            raise InvalidSnapshot(f"{kind} {key!r} is in the snapshot twice; give each {kind} a key of its own")
        seen.add(key)


def _check_adapter(adapter: Adapter) -> None:
    for what, number in (
        ("bytes", adapter.bytes),
        ("rank", adapter.rank),
        ("replicas", adapter.replicas),
        ("max_replicas", adapter.max_replicas or 0),
        ("max_surge", adapter.max_surge or 0),
    ):
        if not isinstance(number, int) or number < 0:
            raise InvalidSnapshot(f"adapter {adapter.key!r} has {what} {number}; use a whole number, 0 or more")
    for what, number in (("priority", adapter.priority), ("age_rank", adapter.age_rank)):
        if not isinstance(number, int):
            raise InvalidSnapshot(f"adapter {adapter.key!r} has {what} {number!r}; use a whole number")
    if abs(adapter.priority) >= -YIELDING:
        raise InvalidSnapshot(
            f"adapter {adapter.key!r} has priority {adapter.priority}; use one of fewer than 19 digits"
        )
    if adapter.idle_since is not None and not isinstance(adapter.idle_since, int):
        raise InvalidSnapshot(
            f"adapter {adapter.key!r} has idle_since {adapter.idle_since!r}; use whole seconds since the epoch, or None"
        )
    for what, value, kind in (
        ("preemption", adapter.preemption, PreemptionPolicy),
        ("replica_policy", adapter.replica_policy, ReplicaPolicy),
        ("selector", adapter.selector, Selector),
    ):
        if not isinstance(value, kind):
            raise InvalidSnapshot(f"adapter {adapter.key!r} has {what} {value!r}; use a {kind.__name__}")
    if not _is_text(adapter.name):
        raise InvalidSnapshot(
            f"adapter {adapter.key!r} has the name {adapter.name!r}; use a text of at least one letter"
        )
    if adapter.demand is not None and not _is_at_least_zero(adapter.demand):
        raise InvalidSnapshot(
            f"adapter {adapter.key!r} has demand {adapter.demand}; give requests per second, or None if unknown"
        )
    for requirement in adapter.selector.match_expressions:
        if requirement.operator not in OPERATORS:
            raise InvalidSnapshot(
                f"the selector of adapter {adapter.key!r} has the operator {requirement.operator!r}; "
                f"use one of {', '.join(sorted(OPERATORS))}"
            )


def _check_pod(pod: Pod) -> None:
    for what, limit in (
        ("host_slots", pod.host_slots),
        ("max_rank", pod.max_rank),
        ("gpu_slots", pod.gpu_slots),
        ("memory_bytes", 1 if pod.memory_bytes is None else pod.memory_bytes),
    ):
        if not isinstance(limit, int):
            raise InvalidSnapshot(f"pod {pod.key!r} has {what} {limit}; use a whole number")
    for resident in pod.residents:
        size, rank = resident.bytes, resident.rank
        if not (isinstance(size, int) and isinstance(rank, int)) or size < 0 or rank < 0:
            raise InvalidSnapshot(
                f"resident {resident.name!r} of pod {pod.key!r} has {size} bytes and rank {rank}; "
                "use whole numbers, 0 or more"
            )
        if not isinstance(resident.state, ResidentState):
            raise InvalidSnapshot(
                f"resident {resident.name!r} of pod {pod.key!r} has the state {resident.state!r}; use a ResidentState"
            )
    reasons = [reason for reason, _ in pod.excluded.values()]
    for reason in reasons if pod.not_ready is None else (*reasons, pod.not_ready[0]):
        if not isinstance(reason, Reason):
            raise InvalidSnapshot(f"pod {pod.key!r} is refused with {reason!r}; use a Reason")


def _is_at_least_zero(number: object) -> bool:
    """Whether it is a number that can be reckoned with, and not negative."""
    try:
        return isinstance(number, (int, float)) and math.isfinite(number) and number >= 0
    except OverflowError:  # a whole number beyond all floating-point ones
        return False


def _is_text(text: object) -> bool:
    """Whether it is a text that can be written, and not empty."""
    if not isinstance(text, str) or not text:
        return False
    return text.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in text)
