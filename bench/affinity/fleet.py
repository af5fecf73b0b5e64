"""Pods with slots and disks, on which loads take time. Virtual: `now` is passed in."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from lora_operator.cache.entry import Entry
from lora_operator.cache.policies import Lru, Memory
from lora_operator.cache.victims import choose_victims

DISK_SECONDS = 0.15  # an engine reads the files
STORE_LATENCY_SECONDS = 0.3
POD_BYTES_PER_SECOND = 125e6  # 1 Gbit/s
STORE_BYTES_PER_SECOND = 1e9  # for all pods together: throttled
UNLOAD_SECONDS = 0.2  # routers are told first


@dataclass(slots=True)
class Pod:
    """`slots` has what is loaded, or on its way there or out: those of which the time is known, when that ends."""

    key: str
    disk_bytes: int
    loaded: set[int] = field(default_factory=set)
    loading: dict[int, float] = field(default_factory=dict)
    leaving: dict[int, float] = field(default_factory=dict)
    disk: dict[int, Entry] = field(default_factory=dict)
    used_bytes: int = 0
    link_free: float = 0.0

    @property
    def taken(self) -> int:
        return len(self.loaded) + len(self.loading) + len(self.leaving)


@dataclass(slots=True)
class Counts:
    """`reloads` are loads of what was loaded before; of these, `from_disk` had their files there, and for `stored`
    some pod did."""

    loads: int = 0
    reloads: int = 0
    from_disk: int = 0
    stored: int = 0
    fetched_bytes: int = 0
    starts: list[float] = field(default_factory=list)  # seconds from the first ask until it is loaded
    unanswered: int = 0  # adapters for which somebody still waits at the end
    imbalance: list[float] = field(default_factory=list)  # at each decision: most adapters in use on a pod ÷ the mean


class Fleet:
    """`sizes` of adapters in bytes, by number."""

    def __init__(self, pods: int, slots: int, disk_bytes: int, sizes: tuple[int, ...]) -> None:
        self.slots = slots
        self.sizes = sizes
        self.pods = {f"pod-{number:02}": Pod(f"pod-{number:02}", disk_bytes) for number in range(pods)}
        self.where: dict[int, set[str]] = {}  # where it is, or is being loaded
        self.holders: dict[int, set[str]] = {}
        self.counts = Counts()
        self._store_free = 0.0
        self._known: set[int] = set()

    def load(self, pod: Pod, adapter: int, now: float) -> float:
        """Begin a load; when it will be there."""
        assert pod.taken < self.slots, f"{pod.key} has no slot left"
        counts, size = self.counts, self.sizes[adapter]
        there = adapter in pod.disk
        counts.loads += 1
        if adapter in self._known:
            counts.reloads += 1
            counts.from_disk += there
            counts.stored += bool(self.holders.get(adapter))
        self._known.add(adapter)
        end = now + DISK_SECONDS
        if not there:
            self._make_room(pod, size, now)
            counts.fetched_bytes += size
            begins = max(now + STORE_LATENCY_SECONDS, pod.link_free, self._store_free)
            pod.link_free = begins + size / POD_BYTES_PER_SECOND
            self._store_free = begins + size / STORE_BYTES_PER_SECOND
            end += pod.link_free - now
            self.holders.setdefault(adapter, set()).add(pod.key)
        old = pod.disk.get(adapter)
        pod.disk[adapter] = Entry(str(adapter), "v", size, old.added_at if old else now, now)
        pod.used_bytes += 0 if there else size
        pod.loading[adapter] = end
        self.where.setdefault(adapter, set()).add(pod.key)
        return end

    def unload(self, pod: Pod, adapter: int, now: float) -> float:
        """Begin an unload; when its slot is free. The files stay until others need their room."""
        pod.loaded.remove(adapter)
        self.where[adapter].remove(pod.key)
        if not self.where[adapter]:
            del self.where[adapter]
        pod.leaving[adapter] = now + UNLOAD_SECONDS
        return pod.leaving[adapter]

    def is_loaded(self, adapter: int) -> bool:
        return any(adapter in self.pods[key].loaded for key in self.where.get(adapter, ()))

    def settle(self, pod: Pod, adapter: int, now: float) -> None:
        """Something has ended."""
        if adapter in pod.loading and pod.loading[adapter] <= now:
            del pod.loading[adapter]
            pod.loaded.add(adapter)
        else:
            del pod.leaving[adapter]

    def _make_room(self, pod: Pod, size: int, now: float) -> None:
        over = pod.used_bytes + size - pod.disk_bytes
        if over <= 0:
            return
        safe = {(str(adapter), "v") for adapter in (*pod.loaded, *pod.loading)}
        choice = choose_victims(
            pod.disk.values(), over, now, Lru(), safe, ttl_seconds=math.inf, memory=Memory()
        )  # fmt: skip
        for victim in choice.victims:
            adapter = int(victim.name)
            del pod.disk[adapter]
            pod.used_bytes -= victim.size_bytes
            self.holders[adapter].discard(pod.key)
