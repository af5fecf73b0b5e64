"""`python -m bench.gateway`: what routing is worth on chats of many turns, and what it costs behind a real Envoy."""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path

from bench.figures import Figure, append, keep, print_rows, print_table
from bench.gateway import cost
from bench.gateway.chats import Shape
from bench.gateway.contenders import AWARE, BLIND, OURS
from bench.gateway.replay import Outcome, replay
from e2e.envoy import EnvoyUnavailable, find_envoy

RATES = (12.0, 30.0, 50.0)  # chats a second that begin
BETTER = 0.2


def worth(seconds: float, seeds: int) -> Iterator[tuple[float, list[Outcome]]]:
    """For each rate all ways, with the mean of all seeds."""
    for rate in RATES:
        outcomes = []
        for name, way in {**BLIND, **AWARE}.items():
            shapes = [Shape(chats_per_second=rate, seconds=seconds, seed=seed) for seed in range(seeds)]
            outcomes.append(_mean(replay(name, way, shape) for shape in shapes))
            print(f"{rate:g} chats a second, {name} …", file=sys.stderr, flush=True)
        yield rate, outcomes


def _mean(outcomes: Iterable[Outcome]) -> Outcome:
    found = [asdict(one) for one in outcomes]
    numbers = {name: statistics.fmean(one[name] for one in found) for name in found[0] if name != "way"}
    return Outcome(found[0]["way"], **numbers | {"turns": sum(one["turns"] for one in found)})


def rows(outcomes: Iterable[Outcome]) -> list[tuple[str, ...]]:
    head = ("way", "turns", "adapter there", "prompt cached", "max/mean", "TTFT mean", "p50", "p99")
    lines = []
    for one in outcomes:
        seconds = (f"{seconds * 1000:.0f} ms" for seconds in (one.ttft_mean, one.ttft_p50, one.ttft_p99))
        shares = (f"{one.resident:.1%}", f"{one.cached:.1%}", f"{one.imbalance:.2f}")
        lines.append((one.way, f"{one.turns}", *shares, *seconds))
    return [head, *lines]


def better(rate: float, outcomes: list[Outcome]) -> Figure:
    ours = next(one for one in outcomes if one.way == OURS)
    best = min((one for one in outcomes if one.way != OURS), key=lambda one: one.ttft_p99)
    less = 1 - ours.ttft_p99 / best.ttft_p99
    name = f"p99 to first token below the best of the others, {rate:g} chats/s"
    return Figure(name, (less * 100,), "%", ">= 20", best.way, less >= BETTER)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.gateway", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="shorter, with one trace of each kind")
    parser.add_argument("--only", choices=("worth", "cost"), help="one of both parts")
    parsed = parser.parse_args()
    figures: list[Figure] = []
    if parsed.only != "cost":
        for rate, outcomes in worth(*((120.0, 1) if parsed.quick else (300.0, 3))):
            print(f"\n{rate:g} chats a second, 16 pods, 1,000 adapters, in virtual time")
            print_rows(rows(outcomes))
            append("gateway.jsonl", [asdict(one) | {"chats_per_second": rate} for one in outcomes])
            figures.append(better(rate, outcomes))
    if parsed.only != "worth":
        extent = cost.Extent(2_000, 3.0, 4_000) if parsed.quick else cost.Extent()
        try:
            find_envoy()
            directory = Path(tempfile.mkdtemp(prefix="lora-operator-bench-"))
            figures += asyncio.run(cost.measure(directory, extent))
        except EnvoyUnavailable as error:
            print(f"left out: {error}", file=sys.stderr)
    print_table(figures, peers="best of the others")
    print(f"\nkept in {keep(figures)}")
    return 0 if all(figure.met is not False for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
