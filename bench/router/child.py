"""A router API over a made fleet, in a process of its own, so that its memory and its CPU time are its own.

`python -m bench.router.child ADAPTERS PODS COPIES` prints a line of JSON (port, figures) and serves until its
input ends. Each line of input makes a pod ready or unready, as if the API server had said so.
"""

from __future__ import annotations

import asyncio
import gc
import json
import random
import sys
import time
from typing import Any

import psutil
from kubernetes.aio.client.api_client import ApiClient

from lora_operator.informers.cache import Cluster
from lora_operator.informers.pod_description import PodDefaults
from lora_operator.kube.client import Kube
from lora_operator.router.queries import find
from lora_operator.router.serving import Router

Json = dict[str, Any]
NAMESPACE = "default"
PER_RESOURCE = 10
PICKS = 20_000


def pod_body(number: int, version: int, ready: bool, engine_port: int = 0) -> Json:
    """With an `engine_port`, on this machine there."""
    arguments = ["--model=llama", "--enable-lora", f"--port={engine_port or 8000}"]
    return {
        "metadata": {
            "name": f"vllm-{number}", "namespace": NAMESPACE, "uid": f"pod-{number}", "resourceVersion": str(version),
        },
        "spec": {"containers": [{"name": "vllm", "args": arguments}]},
        "status": {
            "podIP": pod_ip(number, engine_port),
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
        },
    }  # fmt: skip


def pod_ip(number: int, engine_port: int) -> str:
    return "127.0.0.1" if engine_port else f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"


def fill(cluster: Cluster, adapters: int, pods: int, replicas: int, engine_port: int = 0) -> None:
    """Adapters on pods drawn at random, ten to a resource, in the shape in which the API server sends them."""
    chance = random.Random(1)
    for number in range(pods):
        cluster.pods.put(pod_body(number, number + 1, True, engine_port))
    for first in range(0, adapters, PER_RESOURCE):
        held: dict[int, list[str]] = {}
        names = [f"adapter-{number:05}" for number in range(first, min(first + PER_RESOURCE, adapters))]
        for name in names:
            for pod in chance.sample(range(pods), replicas):
                held.setdefault(pod, []).append(name)
        assignments = [
            {"pod": f"vllm-{pod}", "address": f"{pod_ip(pod, engine_port)}:{engine_port or 8000}", "adapters": on_it}
            for pod, on_it in sorted(held.items())
        ]
        status = {"podAssignments": assignments, "adapters": [{"name": name, "rank": 16} for name in names]}
        metadata = {"name": f"r{first}", "namespace": NAMESPACE, "uid": f"r{first}", "resourceVersion": "1"}
        spec = {"baseModel": "llama", "adapterSource": {"type": "local", "repository": "/models"}}
        cluster.adapters.put({"metadata": metadata, "spec": spec, "status": status})


def time_picks(router: Router, adapters: int) -> list[float]:
    """Seconds of single picks in process, by name and over all adapters."""
    chance, picker = random.Random(2), router.api.picker
    seconds = []
    for _ in range(PICKS):
        name = f"adapter-{chance.randrange(adapters):05}"
        started = time.perf_counter()
        found = picker.pick(find(router.table, name), "", "", frozenset())
        seconds.append(time.perf_counter() - started)
        assert found is not None
    return seconds


async def main(adapters: int, pods: int, replicas: int) -> None:
    process = psutil.Process()
    cluster = Cluster(PodDefaults())
    router = Router(cluster, Kube(ApiClient()))
    gc.collect()
    empty = process.memory_info().rss
    fill(cluster, adapters, pods, replicas)
    gc.collect()
    objects = process.memory_info().rss
    started = time.perf_counter()
    router.listed()
    derived = time.perf_counter() - started
    gc.collect()
    whole = process.memory_info().rss
    picks = sorted(time_picks(router, adapters))
    await router.start("127.0.0.1", 0)
    router.tasks[1].cancel()  # there is no API server to ask
    figures = {
        "port": router.port, "empty_mb": empty / 1e6, "objects_mb": (objects - empty) / 1e6,
        "table_mb": (whole - objects) / 1e6, "all_mb": whole / 1e6, "derive_seconds": derived,
        "pick_p50_us": 1e6 * picks[len(picks) // 2], "pick_p99_us": 1e6 * picks[len(picks) * 99 // 100],
    }  # fmt: skip
    print(json.dumps(figures), flush=True)
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    version, ready = 10_000_000, True
    while await lines.readline():
        version, ready = version + 1, not ready
        cluster.pods.put(pod_body(0, version, ready))
        router.mark()
    await router.stop()


if __name__ == "__main__":
    asyncio.run(main(*map(int, sys.argv[1:])))
