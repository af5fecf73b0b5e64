"""Which adapter a node's cache is asked for, when, and what it would cost to fetch it. Generated, from a seed."""

from __future__ import annotations

import itertools
import math
import random
from dataclasses import dataclass

MIB = 1 << 20
# An fp16 adapter of an 8B model, per unit of rank: on the attention projections only, or on all linear layers.
BYTES_PER_RANK = (int(1.63 * MIB), int(5.0 * MIB))
RANKS, RANK_WEIGHTS = (8, 16, 32, 64, 128), (25, 35, 20, 15, 5)
BANDWIDTH_BYTES_PER_SECOND = 1.25e9  # 10 GbE
LATENCY_SECONDS = (0.1, 1.0)  # of an object store, per fetch


@dataclass(frozen=True, slots=True)
class Item:
    """One adapter. `load_seconds` is what every fetch of it takes."""

    name: str
    size_bytes: int
    load_seconds: float


@dataclass(frozen=True, slots=True)
class Trace:
    """`asks` are (seconds since the beginning, index of the item), in order of time."""

    items: tuple[Item, ...]
    asks: tuple[tuple[float, int], ...]

    @property
    def working_set_bytes(self) -> int:
        """What all that is ever asked for takes together."""
        return sum(self.items[index].size_bytes for index in {index for _, index in self.asks})


def zipf_trace(exponent: float, *, items: int, asks: int, asks_per_hour: float, seed: int) -> Trace:
    """Independent asks at exponential distances; popularity has nothing to do with size."""
    rng = random.Random(f"{exponent} {items} {seed}")
    adapters = []
    for number in range(items):
        rank, per_rank = rng.choices(RANKS, RANK_WEIGHTS)[0], rng.choice(BYTES_PER_RANK)
        size = rank * per_rank
        latency = math.exp(rng.uniform(*map(math.log, LATENCY_SECONDS)))
        adapters.append(Item(f"adapter-{number}", size, latency + size / BANDWIDTH_BYTES_PER_SECOND))
    rng.shuffle(adapters)
    weights = itertools.accumulate((place + 1) ** -exponent for place in range(items))
    chosen = rng.choices(range(items), cum_weights=list(weights), k=asks)
    times = itertools.accumulate(rng.expovariate(asks_per_hour / 3600) for _ in range(asks))
    return Trace(tuple(adapters), tuple(zip(times, chosen, strict=True)))
