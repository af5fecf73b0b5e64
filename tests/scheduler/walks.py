"""Random lives of a fleet: what users, pods, other people and the operator do, in any order, driven by one seed."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from lora_scheduler import (
    Adapter,
    Plan,
    Pod,
    Policy,
    PreemptionPolicy,
    ReplicaPolicy,
    Requirement,
    Resident,
    Selector,
    Snapshot,
    plan,
)
from tests.scheduler.builders import GIB, a_pod, a_replica, an_adapter
from tests.scheduler.world import World

ADAPTERS = ("a", "b", "c", "d", "e", "f")
PODS = ("p1", "p2", "p3", "p4")
VERSIONS = ("v1", "v2", "v3")
DEMANDS = (None, None, 0.0, 0.7, 3.0, 8.0, 12.5)
GOLD_ONLY = Selector(match_expressions=(Requirement("gold", "Exists"),))


def an_arbitrary_adapter(dice: random.Random, key: str) -> Adapter:
    return an_adapter(
        key,
        version=dice.choice(VERSIONS),
        bytes=dice.choice((1, 1, 2, 2, 3, 4)) * GIB // 2,
        rank=dice.choice((8, 8, 8, 8, 8, 32)),
        priority=dice.choice((0, 0, 1, 2, 3)),
        idle_since=dice.choice((None,) * 5 + (7,)),
        preemption=dice.choice((PreemptionPolicy.LOWER_PRIORITY,) * 3 + (PreemptionPolicy.NONE,)),
        replicas=dice.choice((0, 1, 1, 2, 2, 2, 3)),
        replica_policy=dice.choice((ReplicaPolicy.FIXED,) * 4 + (ReplicaPolicy.ALL_PODS, ReplicaPolicy.AUTO)),
        max_replicas=dice.choice((None, None, 1, 3)),
        selector=dice.choice((Selector(),) * 4 + (GOLD_ONLY,)),
        topology_key=dice.choice(("kubernetes.io/hostname", "topology.kubernetes.io/zone")),
        demand=dice.choice(DEMANDS),
        age_rank=dice.choice((0, 1, 2)),
        previous_pods=frozenset(dice.sample(PODS, dice.choice((0, 0, 1, 2)))),
    )


def an_arbitrary_pod(dice: random.Random, key: str, **fields: Any) -> Pod:
    drawn: dict[str, Any] = {
        "slots": dice.choice((1, 2, 3, 3, 4)),
        "memory": dice.choice((None, 1.0, 2.5, 4.0)),
        "max_rank": dice.choice((16, 16, 64)),
        "labels": dice.choice(({}, {"gold": "yes"})),
        "node": dice.choice(("n1", "n2", "")),
        "node_labels": dice.choice(({}, *({"topology.kubernetes.io/zone": zone} for zone in ("z1", "z2")))),
        "side_by_side": frozenset(dice.sample(ADAPTERS, dice.choice((0, 0, 2, 6)))),
    }
    drawn |= some_files(f"{key} {drawn}")
    if len(drawn["side_by_side"]) == 2 and drawn["node"] == "n1":
        drawn["failed_lately"] = frozenset(sorted(drawn["side_by_side"])[:1])
    return a_pod(key, **(drawn | fields))


def some_files(seed: str) -> dict[str, Any]:
    """What is on a disk, by a dice of its own: most pods say nothing of theirs."""
    dice = random.Random(seed)
    versions = [(name, version) for name in ADAPTERS for version in VERSIONS]
    stored = frozenset(dice.sample(versions, dice.choice((0, 0, 4, 9))))
    return {"stored": stored, "disk_bytes": dice.choice((None, None, 3 * GIB)) if stored else None}


class Walk:
    """One life. `check` is called with every plan before anything of it is carried out."""

    def __init__(
        self, seed: int, check: Callable[[World, Policy, Plan], None], *, remember: bool = False, **policy: Any
    ) -> None:
        """With `remember`, every plan holds on to the places that the one before has given."""
        self._remember = remember
        self._last: tuple[Snapshot, Plan] | None = None
        self.dice = random.Random(seed)
        self.world = World()
        self.policy = Policy(
            self.dice.choice(("balanced", "balanced", "binpack", "spread")),
            max_unavailable=self.dice.choice((1, 1, 2)),
            max_surge=seed % 3,
            rebalance_epsilon=self.dice.choice((None, 0.1, 0.1, 0.0)),
            max_moves=self.dice.choice((None, None, 0, 1, 9)),
        )
        self.policy = replace(self.policy, **policy)
        self._check = check
        for key in PODS[: self.dice.choice((1, 2, 3, 3, 4))]:
            self.world.pods[key] = an_arbitrary_pod(self.dice, key)
        for key in ADAPTERS[: self.dice.choice((1, 2, 3, 4, 6))]:
            self.world.adapters[key] = an_arbitrary_adapter(self.dice, key)
        self._events = (
            *(self.weights_change,) * 4,
            *(self.an_adapter_changes,) * 3,
            *(self.replicas_change,) * 2,
            *(self.demand_changes,) * 3,
            *(self.an_adapter_falls_idle_or_is_used_again,) * 2,
            self.an_adapter_comes_or_goes,
            *(self.readiness_changes,) * 2,
            self.a_pod_is_drained,
            *(self.a_pod_is_replaced,) * 2,
            self.a_pod_goes,
            self.limits_change,
            self.somebody_else_loads,
            *(self.somebody_else_unloads,) * 2,
            self.an_orphan_appears,
            self.failures_are_due_again,
            self.files_come_and_go,
        )

    def live(self, steps: int) -> None:
        for _ in range(steps):
            self.operate()
            if self.dice.random() < 0.5:
                self.dice.choice(self._events)()

    def operate(self) -> None:
        """Plan, begin a part of the plan, and let a part of what is under way end or fail."""
        made = self.planned()
        part = self.dice.choice((1.0, 1.0, 0.5))
        for action in self.dice.sample(made.actions, len(made.actions)):
            if self.dice.random() < part:
                self.world.begin(action)
        for flight in self.world.in_flight():
            fate = self.dice.random()
            if fate < 0.6:
                self.world.end(*flight)
            elif fate < 0.68:
                self.world.fail(*flight)

    def planned(self) -> Plan:
        now = self.world.snapshot
        if self._last is not None and (self._last[0].adapters, self._last[0].pods) == (now.adapters, now.pods):
            return self._last[1]  # as a planner does
        made = plan(now, self.policy)
        self._check(self.world, self.policy, made)
        if self._remember:
            self._last = now, made
            self.world.places = made.places
        return made

    def come_to_rest(self, rounds: int = 60) -> Plan:
        """A quiet time: everything that is planned happens. The last plan, which has no actions."""
        for _ in range(rounds):
            made = self.planned()
            self.world.begin_all(made)
            busy = self.world.in_flight()
            self.world.end_all()
            if not made.actions and not busy:
                return made
        raise AssertionError(f"the fleet does not come to rest: {made.actions}")

    # --- what users do

    def _adapter(self) -> Adapter | None:
        return self.world.adapters[self.dice.choice(sorted(self.world.adapters))] if self.world.adapters else None

    def weights_change(self) -> None:
        if adapter := self._adapter():
            changed = replace(adapter, version=self.dice.choice(VERSIONS), bytes=self.dice.choice((1, 2, 3)) * GIB // 2)
            self.world.adapters[adapter.key] = changed

    def replicas_change(self) -> None:
        if adapter := self._adapter():
            self.world.adapters[adapter.key] = replace(adapter, replicas=self.dice.choice((0, 1, 2, 3)))

    def demand_changes(self) -> None:
        if adapter := self._adapter():
            self.world.adapters[adapter.key] = replace(adapter, demand=self.dice.choice(DEMANDS))

    def an_adapter_falls_idle_or_is_used_again(self) -> None:
        if adapter := self._adapter():
            since = None if adapter.idle else self.dice.choice((1, 2, 3))
            self.world.adapters[adapter.key] = replace(adapter, idle_since=since, priority=self.dice.choice((0, 1)))

    def an_adapter_changes(self) -> None:
        if adapter := self._adapter():
            new = an_arbitrary_adapter(self.dice, adapter.key)
            self.world.adapters[adapter.key] = replace(new, version=adapter.version, bytes=adapter.bytes)

    def an_adapter_comes_or_goes(self) -> None:
        key = self.dice.choice(ADAPTERS)
        if self.world.adapters.pop(key, None) is None:
            self.world.adapters[key] = an_arbitrary_adapter(self.dice, key)

    # --- what happens to pods

    def _pod(self) -> Pod | None:
        return self.world.pods[self.dice.choice(sorted(self.world.pods))] if self.world.pods else None

    def readiness_changes(self) -> None:
        if pod := self._pod():
            held = pod.ready and self.dice.random() < 0.6
            self.world.pods[pod.key] = replace(pod, ready=not pod.ready, held=held)

    def a_pod_is_drained(self) -> None:
        if pod := self._pod():
            self.world.pods[pod.key] = replace(pod, draining=True)

    def a_pod_is_replaced(self) -> None:
        key = self.dice.choice(PODS)
        self.world.pods[key] = an_arbitrary_pod(self.dice, key)

    def a_pod_goes(self) -> None:
        if pod := self._pod():
            del self.world.pods[pod.key]

    def limits_change(self) -> None:
        if pod := self._pod():
            new = an_arbitrary_pod(self.dice, pod.key, side_by_side=pod.side_by_side)
            self.world.pods[pod.key] = replace(new, residents=pod.residents, ready=pod.ready, draining=pod.draining)

    def failures_are_due_again(self) -> None:
        for key, pod in self.world.pods.items():
            self.world.pods[key] = replace(pod, excluded={}, failed_lately=frozenset())

    def files_come_and_go(self) -> None:
        if pod := self._pod():
            self.world.pods[pod.key] = replace(pod, **some_files(f"{self.dice.random()}"))

    def held_pods_are_back(self) -> None:
        for key, pod in self.world.pods.items():
            self.world.pods[key] = replace(pod, ready=pod.ready or pod.held)

    # --- what others do behind the operator's back

    def _appear(self, pod: Pod | None, resident: Resident) -> None:
        if pod is not None and resident.name not in {other.name for other in pod.residents}:
            self.world.pods[pod.key] = replace(pod, residents=(*pod.residents, resident))

    def somebody_else_loads(self) -> None:
        size = self.dice.choice((0, 1, 2)) * GIB
        self._appear(self._pod(), Resident(self.dice.choice(("theirs", "a", "b")), size, 8, owned=False))

    def an_orphan_appears(self) -> None:
        name = self.dice.choice(("gone", *ADAPTERS))
        adapter = self.dice.choice((None, name))
        self._appear(self._pod(), a_replica(name, name=f"{name}--v9", version="v9", adapter=adapter))

    def somebody_else_unloads(self) -> None:
        if (pod := self._pod()) and pod.residents:
            gone = self.dice.choice(pod.residents)
            self.world.pods[pod.key] = replace(pod, residents=tuple(r for r in pod.residents if r is not gone))


def shuffled(snapshot: Snapshot, seed: int) -> Snapshot:
    """The same fleet, listed in another order."""
    dice = random.Random(seed)
    pods = [replace(pod, residents=tuple(dice.sample(pod.residents, len(pod.residents)))) for pod in snapshot.pods]
    adapters = dice.sample(snapshot.adapters, len(snapshot.adapters))
    return Snapshot(tuple(adapters), tuple(dice.sample(pods, len(pods))), snapshot.places)
