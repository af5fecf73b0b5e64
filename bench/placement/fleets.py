"""Fleets to place on: adapters with Zipf demand and real sizes, pods just large enough for the wanted use.

Everything follows from a Shape and its seed. Demand is in requests per second, sizes are in bytes.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass, replace
from enum import StrEnum

from lora_scheduler import Adapter, Pod, PreemptionPolicy, ReplicaPolicy, Snapshot

MIB = 1 << 20
SMALL, MIDDLE, LARGE = (100, 10), (1_000, 100), (10_000, 1_000)  # adapters, pods
BASE_MODEL = "llama-3.1-8b"
# per unit of rank in fp16, Llama-3.1-8B: attention only (q, k, v, o), and all linear layers
BYTES_PER_RANK = (int(1.63 * MIB), 5 * MIB)
RANKS, RANK_WEIGHTS = (8, 16, 32, 64, 128), (30, 30, 20, 15, 5)
ZONES = ("a", "b", "c")
HOSTNAME, ZONE = "kubernetes.io/hostname", "topology.kubernetes.io/zone"
REQUESTS_PER_POD = 10.0
# what mixed pods are: share of the pods, room relative to the smallest, highest rank
MIXED = ((0.5, 1.0, 32), (0.3, 1.5, 64), (0.2, 2.0, 128))
PODS_PER_NODE = 2
ROOMY = 3.0  # how much of the resource that does not bind there is, relative to what is wanted


class Binding(StrEnum):
    """Which limit is tight."""

    MEMORY = "memory"
    SLOTS = "slots"
    BOTH = "both"


class Replicas(StrEnum):
    """How many replicas the adapters want."""

    ONE = "one"
    FEW = "few"  # one to three, whatever the demand
    BY_DEMAND = "by demand"  # so many that each carries at most half a pod's mean load
    AUTO = "auto"  # from one on, left to the library


@dataclass(frozen=True, slots=True)
class Shape:
    """What a fleet looks like. `use`: wanted ÷ available of what binds. `zipf` 0: demand is unknown."""

    adapters: int
    pods: int
    zipf: float = 1.0
    use: float = 0.8
    binding: Binding = Binding.BOTH
    mixed: bool = False
    replicas: Replicas = Replicas.BY_DEMAND
    priorities: int = 1
    seed: int = 1

    @property
    def size(self) -> str:
        return f"{self.adapters:,}×{self.pods:,}"


def build(shape: Shape) -> Snapshot:
    """The fleet with nothing loaded. Adapters too large for every pod have their rank halved until they fit.

    Raises ValueError where one of the lowest rank does not fit on any pod either.
    """
    rng = random.Random(f"fleet {shape.seed} {shape.adapters} {shape.pods} {shape.zipf}")
    adapters = _adapters(shape, rng)
    while True:
        pods = _pods(shape, adapters)
        too_large = {adapter.key for adapter in adapters if not any(_takes(pod, adapter) for pod in pods)}
        if not too_large:
            return Snapshot(adapters, pods)
        adapters = tuple(_halved(adapter, shape) if adapter.key in too_large else adapter for adapter in adapters)


def _takes(pod: Pod, adapter: Adapter) -> bool:
    return adapter.bytes <= (pod.memory_bytes or 0) and adapter.rank <= pod.max_rank


def _halved(adapter: Adapter, shape: Shape) -> Adapter:
    if adapter.rank <= min(RANKS):
        raise ValueError(
            f"adapter {adapter.key} ({adapter.bytes} bytes, rank {adapter.rank}) fits on no pod of {shape}: "
            "give the shape more adapters per pod"
        )
    return replace(adapter, rank=adapter.rank // 2, bytes=adapter.bytes // 2)


def another(key: str, rng: random.Random, *, demand: float | None, priority: int = 0, age_rank: int = 0) -> Adapter:
    """One adapter of random rank and targets that wants one replica."""
    rank = rng.choices(RANKS, RANK_WEIGHTS)[0]
    size = rank * rng.choice(BYTES_PER_RANK)
    return Adapter(
        key, key, BASE_MODEL, "v1", size, rank, priority=priority, demand=demand, age_rank=age_rank,
        topology_key=rng.choices((HOSTNAME, ZONE), (70, 30))[0],
    )  # fmt: skip


def _adapters(shape: Shape, rng: random.Random) -> tuple[Adapter, ...]:
    demands = [1.0 / (place + 1) ** shape.zipf for place in range(shape.adapters)]
    scale = REQUESTS_PER_POD * shape.pods / sum(demands)
    rng.shuffle(demands)
    adapters = []
    for number, part in enumerate(demands):
        demand = None if shape.zipf == 0 else round(part * scale, 6)
        priority = rng.randrange(shape.priorities)
        adapter = another(f"a{number:05d}", rng, demand=demand, priority=priority, age_rank=number)
        few = min(rng.choices((1, 2, 3), (80, 15, 5))[0], shape.pods)
        stubborn = shape.priorities > 1 and rng.random() < 0.1
        adapters.append(
            replace(
                adapter,
                replicas=_replicas(shape, demand, few),
                replica_policy=ReplicaPolicy.AUTO if shape.replicas is Replicas.AUTO else ReplicaPolicy.FIXED,
                preemption=PreemptionPolicy.NONE if stubborn else PreemptionPolicy.LOWER_PRIORITY,
            )
        )
    return tuple(adapters)


def _replicas(shape: Shape, demand: float | None, few: int) -> int:
    if shape.replicas is Replicas.FEW:
        return few
    if shape.replicas is Replicas.BY_DEMAND and demand is not None:
        return min(shape.pods, max(1, math.ceil(demand / (REQUESTS_PER_POD / 2))))
    return 1


def _pods(shape: Shape, adapters: tuple[Adapter, ...]) -> tuple[Pod, ...]:
    replicas = sum(adapter.replicas for adapter in adapters)
    size = sum(adapter.replicas * adapter.bytes for adapter in adapters)
    parts, ranks = _parts(shape)
    slots = _share_out(
        math.ceil(replicas / shape.use if shape.binding is not Binding.MEMORY else replicas * ROOMY), parts
    )
    memory = math.ceil(size / shape.use if shape.binding is not Binding.SLOTS else size * ROOMY)
    total = sum(parts)
    width = len(str(shape.pods - 1))
    return tuple(
        Pod(
            f"p{number:0{width}d}", BASE_MODEL, slots[number], ranks[number], int(memory * parts[number] / total),
            gpu_slots=min(8, slots[number]), node=node, node_labels={HOSTNAME: node, ZONE: zone},
        )
        for number in range(shape.pods)
        for zone in (ZONES[number % len(ZONES)],)
        for node in (f"n{number // len(ZONES) // PODS_PER_NODE}{zone}",)
    )  # fmt: skip


def _parts(shape: Shape) -> tuple[list[float], list[int]]:
    """Each pod's room relative to the others, and its highest rank."""
    if not shape.mixed:
        return [1.0] * shape.pods, [max(RANKS)] * shape.pods
    kinds = [(part, rank) for share, part, rank in MIXED for _ in range(math.ceil(share * 10))]
    chosen = [kinds[(number * 7) % len(kinds)] for number in range(shape.pods)]  # every kind in every zone
    return [part for part, _ in chosen], [rank for _, rank in chosen]


def _share_out(total: int, parts: list[float]) -> list[int]:
    """Whole slots in proportion, largest remainders first, at least one each."""
    exact = [total * part / sum(parts) for part in parts]
    slots = [max(1, math.floor(one)) for one in exact]
    by_remainder = sorted(range(len(parts)), key=lambda n: (math.floor(exact[n]) - exact[n], n))
    for number in by_remainder[: max(0, total - sum(slots))]:
        slots[number] += 1
    return slots
