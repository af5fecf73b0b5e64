"""The endpoint picker: what it adds to a request through a real Envoy, and how many requests a core of it takes."""

from __future__ import annotations

import asyncio
import json
import random
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

from bench.envoy.traffic import an_engine, completion
from bench.figures import Figure, percentile
from bench.router.clients import load
from e2e.envoy import Envoy, EnvoyUnavailable, find_envoy

ADAPTERS, PODS, COPIES = 1_000, 100, 2
REQUESTS, CONNECTIONS, ROUNDS, EACH = 6_000, 8, 10, 200


def envoy(directory: Path, runs: int) -> list[Figure]:
    """the endpoint picker behind a real Envoy: time added to a request, requests per core of the picker"""
    try:
        find_envoy()
    except EnvoyUnavailable as error:
        print(f"left out: {error}", file=sys.stderr)
        return []
    return asyncio.run(_measure(directory))


async def _measure(directory: Path) -> list[Figure]:
    chance = random.Random(3)
    requests = [completion(f"adapter-{chance.randrange(ADAPTERS):05}") for _ in range(REQUESTS)]
    async with an_engine() as engine_port:
        words = ("-m", "bench.envoy.child", *map(str, (ADAPTERS, PODS, COPIES, engine_port)))
        child = await asyncio.create_subprocess_exec(sys.executable, *words, stdin=PIPE, stdout=PIPE)
        assert child.stdin is not None and child.stdout is not None
        told = json.loads(await child.stdout.readline())
        with (
            Envoy(told["port"], directory / "picked") as picked,
            Envoy(0, directory / "fixed", fixed=f"127.0.0.1:{engine_port}") as fixed,
        ):
            many = await load(child.pid, picked.port, requests, CONNECTIONS)
            with_it, without, added = await _in_turn(child.pid, picked.port, fixed.port, requests)
        child.stdin.close()
        await child.wait()
    size = f"{ADAPTERS} adapters x {PODS} pods, requests of {len(requests[0])} bytes"
    return [
        Figure("picker adds to a request through Envoy, p50", added, "s", "<= 0.002", "",
               percentile(added, 50) <= 0.002, f"of {EACH} requests each; {size}"),
        Figure("request through Envoy and picker, one connection", tuple(with_it), "s", ""),
        Figure("the same through Envoy alone", tuple(without), "s", ""),
        Figure("requests through Envoy per core of the picker", (many.per_core,), "/s", ">= 1500", "",
               many.per_core >= 1500, f"{CONNECTIONS} connections, per second of the picker's CPU time"),
        Figure(f"request through Envoy and picker, {CONNECTIONS} connections that never pause", tuple(many.seconds),
               "s", ""),
    ]  # fmt: skip


async def _in_turn(
    pid: int, picked: int, fixed: int, requests: list[bytes]
) -> tuple[list[float], list[float], tuple[float, ...]]:
    """Seconds with the picker, without, and what it adds at the median; in rounds, as others on the machine disturb."""
    with_it, without, added = list[float](), list[float](), list[float]()
    for number in range(ROUNDS):
        share = requests[number * EACH : (number + 1) * EACH]
        middles = []
        for port, seconds in ((picked, with_it), (fixed, without)):
            found = (await load(pid, port, share, 1)).seconds
            seconds += found
            middles.append(percentile(found, 50))
        added.append(middles[0] - middles[1])
    return with_it, without, tuple(added)
