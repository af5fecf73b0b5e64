"""An endpoint picker over a made fleet, in a process of its own, so that its CPU time is its own.

`python -m bench.envoy.child ADAPTERS PODS COPIES ENGINE_PORT [PREFIX_BLOCKS]` prints a line of JSON (port) and serves
until its input ends. All pods have the address of one engine: picking among them costs the same.
"""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import replace

from kubernetes.aio.client.api_client import ApiClient

from bench.router.child import fill
from lora_operator.informers.cache import Cluster
from lora_operator.informers.pod_description import PodDefaults
from lora_operator.kube.client import Kube
from lora_operator.picking.server import start_picker
from lora_operator.router.prefix_index import MOST_BLOCKS
from lora_operator.router.serving import Router
from lora_operator.router.settings import RouterSettings


async def main(adapters: int, pods: int, replicas: int, engine_port: int, prefix_blocks: int = MOST_BLOCKS) -> None:
    cluster = Cluster(PodDefaults())
    router = Router(cluster, Kube(ApiClient()), prefix_blocks=prefix_blocks)
    fill(cluster, adapters, pods, replicas, engine_port)
    await router.start("127.0.0.1", 0)
    router.tasks[1].cancel()  # there is no API server to ask
    router.listed()
    settings = replace(RouterSettings(), host="127.0.0.1", picker_drain_seconds=0.0)
    picker = await start_picker(settings, router.api, router.table, cluster)
    print(json.dumps({"port": picker.port}), flush=True)
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    await lines.read()
    await picker.stop()
    await router.stop()


if __name__ == "__main__":
    asyncio.run(main(*map(int, sys.argv[1:])))
