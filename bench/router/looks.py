"""Loads of a made fleet, in a process of its own: `python -m bench.router.looks PORT PODS SECONDS`.

All pods are at 127.0.0.1:PORT. Prints a line of JSON: looks that were made, and the processor time of all, of reading
pages alone, and of the index alone.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
import urllib.request

from lora_operator.router.traffic import OK, Loads, load_of
from lora_operator.vllm.metrics import parse_metrics
from lora_scheduler.routing import Endpoint, Index

TIMES = 200


def main(port: int, pods: int, seconds: float) -> None:
    index, names = Index(), [f"default/vllm-{number}" for number in range(pods)]
    for name in names:
        index.put(Endpoint(name, f"127.0.0.1:{port}", "llama"), now=time.monotonic())
    told = asyncio.run(look(index, pods, seconds))
    page = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics").read().decode()
    started = time.process_time()
    for _ in range(TIMES):
        read = parse_metrics(page)
    told["parse_seconds"] = (time.process_time() - started) / TIMES
    now = time.monotonic()
    load = load_of(read, now)
    started = time.process_time()
    for name in names:
        index.observe(name, load, now=now)
    told["observe_seconds"] = (time.process_time() - started) / pods
    print(json.dumps(told))


async def look(index: Index, pods: int, seconds: float) -> dict[str, float]:
    looks, all_seen = 0, asyncio.Event()

    def count(result: str) -> None:
        nonlocal looks
        looks += result == OK
        if looks >= pods:
            all_seen.set()

    loads = Loads(index, time.monotonic, period_seconds=1.0, counted=count)
    task = asyncio.create_task(loads.run())
    await all_seen.wait()  # connections are made in the first round
    before, cpu, wall = looks, time.process_time(), time.monotonic()
    await asyncio.sleep(seconds)
    told = {
        "looks": looks - before, "cpu_seconds": time.process_time() - cpu, "wall_seconds": time.monotonic() - wall,
        "period_seconds": loads.period_seconds, "oldest_seconds": loads.ages().oldest_seconds,
    }  # fmt: skip
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return told


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
