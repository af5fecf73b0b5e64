"""Who asks for which adapter, when, and for how long. Generated, from a seed."""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass
from enum import StrEnum


class Bursts(StrEnum):
    """What comes in bursts."""

    ALL = "all requests"  # of any adapters together
    EACH = "each adapter's"  # many for one adapter at once: harder


@dataclass(frozen=True, slots=True)
class Shape:
    """Zipf demand for `adapters`, `per_second` requests in all for `seconds`, with intervals from a gamma distribution
    of this coefficient of variation `cv` (1: Poisson)."""

    adapters: int
    per_second: float
    seconds: float
    cv: float = 1.0
    bursts: Bursts = Bursts.ALL
    zipf: float = 1.0
    served_seconds: float = 4.0  # the mean; exponential
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Request:
    """`seconds`: what an engine needs for it that does nothing else."""

    at: float
    adapter: str
    seconds: float


def shares(shape: Shape) -> list[float]:
    """Of each adapter in the demand, the most popular first."""
    weights = [(place + 1) ** -shape.zipf for place in range(shape.adapters)]
    total = sum(weights)
    return [weight / total for weight in weights]


def requests(shape: Shape) -> list[Request]:
    """In order of time."""
    rng = random.Random(f"{shape}")
    names = [adapter_name(number) for number in range(shape.adapters)]
    popular = shares(shape)
    arrivals: list[tuple[float, str]]
    if shape.bursts is Bursts.ALL:
        times = _arrivals(rng, shape.per_second, shape)
        chosen = rng.choices(names, cum_weights=list(itertools.accumulate(popular)), k=len(times))
        arrivals = list(zip(times, chosen, strict=True))
    else:
        arrivals = sorted(
            (at, name)
            for name, share in zip(names, popular, strict=True)
            for at in _arrivals(rng, shape.per_second * share, shape)
        )
    return [Request(at, name, rng.expovariate(1 / shape.served_seconds)) for at, name in arrivals]


def adapter_name(number: int) -> str:
    return f"adapter-{number}"


def _arrivals(rng: random.Random, rate: float, shape: Shape) -> list[float]:
    """Begun long before, so that nobody starts with a burst."""
    form = shape.cv**-2
    scale = 1 / (rate * form)
    at, times = -20 * scale * rng.random(), []
    while at < shape.seconds:
        if at >= 0:
            times.append(at)
        at += rng.gammavariate(form, scale)
    return times
