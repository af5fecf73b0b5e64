"""Who asks for which adapter on demand, when. Generated, from a seed."""

from __future__ import annotations

import itertools
import math
import random
from dataclasses import dataclass

from bench.cache.traces import BYTES_PER_RANK, RANK_WEIGHTS, RANKS

DAY_SECONDS = 6 * 3600.0  # shorter than ours: popularity moves through all of it
SWING = 0.9  # of an adapter's rate, over its day


@dataclass(frozen=True, slots=True)
class Shape:
    """Zipf demand that comes in bursts: so many requests on the average, one every `apart_seconds` of them."""

    zipf: float
    adapters: int = 10_000
    per_second: float = 2.0
    seconds: float = DAY_SECONDS
    burst: float = 4.0
    apart_seconds: float = 30.0
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Trace:
    """`asks` are (seconds since the beginning, number of the adapter), in order of time; `sizes` in bytes."""

    sizes: tuple[int, ...]
    asks: tuple[tuple[float, int], ...]

    @property
    def working_set_bytes(self) -> int:
        """What all that is ever asked for takes together."""
        return sum(self.sizes[number] for number in {number for _, number in self.asks})


def generate(shape: Shape) -> Trace:
    """Each adapter has its hour: its rate goes up and down over a day, and every day has another beginning for it."""
    rng = random.Random(f"{shape}")
    sizes = tuple(
        rng.choices(RANKS, RANK_WEIGHTS)[0] * rng.choice(BYTES_PER_RANK) for _ in range(shape.adapters)
    )  # fmt: skip
    phases = [rng.random() for _ in range(shape.adapters)]
    numbers = list(range(shape.adapters))
    rng.shuffle(numbers)  # popularity has nothing to do with size
    weights = list(itertools.accumulate((place + 1) ** -shape.zipf for place in range(shape.adapters)))
    bursts_per_second = shape.per_second / shape.burst
    asks: list[tuple[float, int]] = []
    at = 0.0
    while at < shape.seconds:
        at += rng.expovariate(bursts_per_second * (1 + SWING))
        number = rng.choices(numbers, cum_weights=weights)[0]
        now = 1 + SWING * math.cos(2 * math.pi * (at / DAY_SECONDS - phases[number]))
        if rng.random() * (1 + SWING) > now:
            continue
        when = at
        while True:
            asks.append((when, number))
            if rng.random() < 1 / shape.burst:
                break
            when += rng.expovariate(1 / shape.apart_seconds)
    return Trace(sizes, tuple(sorted(ask for ask in asks if ask[0] < shape.seconds)))
