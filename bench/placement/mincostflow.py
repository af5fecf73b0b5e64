"""Minimum-cost flow from replicas to slots, as the assignment problem that it is when every replica is one unit.

A flow knows slots and costs, but not the memory of a pod nor that two replicas of an adapter need two pods: what it
does wrong there is taken off, largest first, and goes to the least loaded pod that has room.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import linear_sum_assignment

from bench.placement.baselines import LEAST_LOADED, share
from bench.placement.quality import Assignment, budget_bytes, usable
from lora_scheduler import Adapter, Pod, Snapshot

FORBIDDEN = 1e12


class MinCostFlow:
    """The k-th slot of a pod costs k × the replica's load, which evens loads out; a move costs a pod's mean load."""

    name = "min-cost flow"

    def place(self, snapshot: Snapshot, before: Assignment) -> dict[str, tuple[str, ...]]:
        """Where everything should be, given where it was. Replicas that fit nowhere are left out."""
        pods = [pod for pod in snapshot.pods if usable(pod)]
        replicas = [adapter for adapter in snapshot.adapters for _ in range(adapter.replicas)]
        owners: np.ndarray = np.repeat(np.arange(len(pods)), [pod.host_slots for pod in pods])
        positions = np.concatenate([np.arange(1, pod.host_slots + 1) for pod in pods])
        shares = np.array([share(adapter) for adapter in replicas])
        mean = shares.sum() / len(pods)
        # so large that a replica is left out only for want of slots, and then the one of least weighted demand
        worth = 1e3 * mean * (1 + np.array([10.0**adapter.priority for adapter in replicas]) * shares)
        costs = shares[:, None] * positions[None, :] + mean - worth[:, None]
        number_of = {pod.key: number for number, pod in enumerate(pods)}
        columns = [np.flatnonzero(owners == number) for number in range(len(pods))]
        for row, adapter in enumerate(replicas):
            for key in before.get(adapter.key, ()):
                if key in number_of:
                    costs[row, columns[number_of[key]]] -= mean
            barred = [number for number, pod in enumerate(pods) if not may_hold(adapter, pod)]
            if barred:
                costs[row, np.isin(owners, barred)] = FORBIDDEN
        rows, chosen = linear_sum_assignment(costs)
        flow: dict[str, set[str]] = {adapter.key: set() for adapter in snapshot.adapters}
        for row, column in zip(rows, chosen, strict=True):
            if costs[row, column] < FORBIDDEN:
                flow[replicas[row].key].add(pods[owners[column]].key)
        return LEAST_LOADED.place(snapshot, _within_memory(snapshot, flow))


def may_hold(adapter: Adapter, pod: Pod) -> bool:
    """By base model and rank."""
    return adapter.base_model == pod.base_model and adapter.rank <= pod.max_rank


def _within_memory(snapshot: Snapshot, flow: dict[str, set[str]]) -> dict[str, tuple[str, ...]]:
    """Take the largest replicas off each pod that is beyond its memory."""
    by_pod: dict[str, list[Adapter]] = {}
    for adapter in snapshot.adapters:
        for key in flow[adapter.key]:
            by_pod.setdefault(key, []).append(adapter)
    for pod in snapshot.pods:
        there = sorted(by_pod.get(pod.key, ()), key=lambda adapter: (-adapter.priority, adapter.bytes))
        free = budget_bytes(pod)
        for adapter in there:
            if adapter.bytes <= free:
                free -= adapter.bytes
            else:
                flow[adapter.key].discard(pod.key)
    return {key: tuple(sorted(pods)) for key, pods in flow.items()}
