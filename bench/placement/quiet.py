"""Fleets in which nothing happens: the next plan has to be empty."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace

from bench.placement.contenders import Contender
from bench.placement.fleets import MIDDLE, SMALL, Replicas, Shape, build
from bench.placement.quality import quality
from bench.placement.records import Record, record
from lora_scheduler import Snapshot

NOISE = 0.02


def shapes(quick: bool) -> Iterator[Shape]:
    """Half full to crowded, even and mixed."""
    for adapters, pods in (SMALL,) if quick else (SMALL, MIDDLE):
        for use in (0.8, 0.98, 1.3):
            for mixed in (False, True):
                yield Shape(adapters, pods, 1.0, use, mixed=mixed, priorities=3 if use > 1 else 1)
        yield Shape(adapters, pods, 1.2, 0.6, replicas=Replicas.AUTO)
        yield Shape(adapters, pods, 0.0, 0.9, replicas=Replicas.FEW)


def measure(methods: tuple[Contender, ...], quick: bool) -> Iterator[Record]:
    """`loads`: after nothing has changed; `loads_in_noise`: after all demands changed by up to 2 %."""
    for shape in shapes(quick):
        fleet = build(shape)
        for method in methods:
            settled = method.advance(fleet, {}).assignment
            again = method.advance(fleet, settled)
            noisy = method.advance(_shaken(fleet), settled)
            yield record(
                "quiet", shape, method.name, quality(fleet, again.assignment), loads=again.loads, rounds=again.rounds,
                loads_in_noise=noisy.loads,
            )  # fmt: skip


def _shaken(fleet: Snapshot) -> Snapshot:
    rng = random.Random("noise")
    return replace(
        fleet,
        adapters=tuple(
            adapter
            if adapter.demand is None
            else replace(adapter, demand=round(adapter.demand * rng.uniform(1 - NOISE, 1 + NOISE), 6))
            for adapter in fleet.adapters
        ),
    )
