"""Where a load goes, and who gives way: the operator's planner, and simpler methods. All know who is in use."""

from __future__ import annotations

import random
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Protocol

from bench.affinity.fleet import Fleet, Pod
from lora_scheduler import Adapter, Load, Planner, Policy, Resident, ResidentState
from lora_scheduler import Pod as PlannedPod

Actions = tuple[list[tuple[Pod, int]], list[tuple[Pod, int]]]  # loads, unloads


@dataclass(frozen=True, slots=True)
class News:
    """`lacking` are asked for and loaded nowhere, `in_use` all that were asked for lately, `used` when that was. Since
    the last question `pods` have changed, and `adapters` have been asked for, fallen idle, been loaded or unloaded."""

    lacking: AbstractSet[int]
    in_use: AbstractSet[int]
    used: Mapping[int, float]
    pods: AbstractSet[str]
    adapters: AbstractSet[int]


class Chooser(Protocol):
    """Decides about all that is asked for and has no place."""

    def decide(self, fleet: Fleet, news: News) -> Actions: ...  # pragma: no cover


class ByPlanner:
    """The operator's. With `disks`, pods say which files they have."""

    def __init__(self, fleet: Fleet, *, disks: bool) -> None:
        self._planner = Planner(Policy(demand_half_life=600.0), remember=True)
        self._disks = disks
        self._seen: dict[int, Adapter] = {}
        self._planner.update(pods=[self._pod(fleet, pod) for pod in fleet.pods.values()])

    def decide(self, fleet: Fleet, news: News) -> Actions:
        new, gone = [], []
        for number in news.adapters:
            seen = self._seen.get(number)
            if number in fleet.where or number in news.in_use:
                adapter = self._adapter(fleet, number, news)
                if adapter != seen:
                    self._seen[number] = adapter
                    new.append(adapter)
            elif seen is not None:
                del self._seen[number]
                gone.append(seen.key)
        pods = [self._pod(fleet, fleet.pods[key]) for key in sorted(news.pods)]
        made = self._planner.update(adapters=sorted(new, key=lambda one: one.key), pods=pods, removed_adapters=gone)
        loads = [(fleet.pods[a.pod], int(a.adapter)) for a in made.actions if isinstance(a, Load)]
        unloads = [(fleet.pods[a.pod], int(a.name)) for a in made.actions if not isinstance(a, Load)]
        return loads, unloads

    def _adapter(self, fleet: Fleet, number: int, news: News) -> Adapter:
        key, idle = str(number), None if number in news.in_use else int(news.used[number])
        return Adapter(key, key, "m", "v", fleet.sizes[number], 8, replicas=int(idle is None), idle_since=idle)

    def _pod(self, fleet: Fleet, pod: Pod) -> PlannedPod:
        states = ((pod.loaded, ResidentState.LOADED), (pod.loading, ResidentState.LOADING),
                  (pod.leaving, ResidentState.UNLOADING))  # fmt: skip
        residents = [
            Resident(str(number), fleet.sizes[number], 8, str(number), "v", state)
            for numbers, state in states
            for number in numbers
        ]
        residents.sort(key=lambda resident: resident.name)
        stored = frozenset((str(number), "v") for number in pod.disk) if self._disks else frozenset()
        return PlannedPod(
            pod.key, "m", host_slots=fleet.slots, max_rank=64, node=pod.key, residents=tuple(residents), stored=stored,
            disk_bytes=pod.disk_bytes if self._disks else None,
        )  # fmt: skip


class Simple:
    """Takes a pod with a free slot, or one on which somebody is unused. `method`: the pod by lot, always the same one
    for an adapter while it has room (`hashed`), or where somebody has been unused the longest (`residency`)."""

    def __init__(self, method: str) -> None:
        self._method = method
        self._lot = random.Random(method)

    def decide(self, fleet: Fleet, news: News) -> Actions:
        loads: list[tuple[Pod, int]] = []
        unloads: list[tuple[Pod, int]] = []
        coming = dict.fromkeys(fleet.pods, 0)
        for adapter in sorted(news.lacking):
            pods = list(fleet.pods.values())
            free = [pod for pod in pods if pod.taken + coming[pod.key] < fleet.slots]
            idle = {pod.key: sorted(pod.loaded - news.in_use, key=lambda one: (news.used[one], one)) for pod in pods}
            if self._method == "hashed":
                pod = max(pods, key=lambda one: random.Random(f"{adapter} {one.key}").random())
                free = [pod] if pod in free else free if not idle[pod.key] and not pod.leaving else []
            elif self._method == "random":
                pod = self._lot.choice([one for one in pods if idle[one.key] or one in free] or pods)
                free = [pod] if pod in free else []
            else:
                oldest = [one for one in pods if idle[one.key]]
                pod = min(oldest or pods, key=lambda one: news.used[idle[one.key][0]] if oldest else 0.0)
            if free:
                chosen = min(free, key=lambda one: (one.taken + coming[one.key], one.key))
                coming[chosen.key] += 1
                loads.append((chosen, adapter))
            elif idle[pod.key] and not any(one is pod for one, _ in unloads) and not pod.leaving:
                unloads.append((pod, idle[pod.key][0]))
        return loads, unloads
