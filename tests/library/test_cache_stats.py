"""What administrators see of agents' disks, read from real metrics of an agent; null is what nobody says."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, cast

from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest

from lora_library.cluster.cache_stats import CacheStats
from lora_operator.cache.history import Counts
from lora_operator.cache.metrics import FilesMetrics
from lora_operator.cache.statistics import Statistics
from lora_operator.kube.client import Kube, KubeError
from lora_operator.process.listening import listen
from tests.library.conftest import Running, served

UNKNOWN = dict.fromkeys(
    ("used_bytes", "budget_bytes", "adapters", "in_use", "pinned", "prefetched", "hits", "misses", "evictions",
     "oldest_use_seconds", "utilisation", "hit_rate")
)  # fmt: skip


def statistics(hits: int, misses: int, **given: Any) -> Statistics:
    values: dict[str, Any] = {field.name: 0 for field in dataclasses.fields(Statistics)}
    none = {field.name: 0 for field in dataclasses.fields(Counts)}
    counts = Counts(**(none | {"hits": hits, "misses": misses}))
    return Statistics(**(values | given | {"process": counts, "total": counts}))


class Endpoints:
    """An API server with LoraEndpoints, in two pages."""

    def __init__(self, *addresses: str) -> None:
        self.addresses, self.asked, self.down = addresses, 0, False

    async def call(self, method: str, path: str, *, query: dict[str, str]) -> Any:
        self.asked += 1
        if self.down:
            raise KubeError(503, "down")
        at = int(query.get("continue", 0))
        item = {"metadata": {"name": f"vllm-{at}"}, "address": self.addresses[at], "adapters": {"a": "l/1", "b": "l/2"}}
        more = {"continue": str(at + 1)} if at + 1 < len(self.addresses) else {}
        return {"items": [item], "metadata": more}


async def with_stats(library: Running, stats: CacheStats) -> Any:
    object.__setattr__(library.parts.library, "cache_stats", stats)
    return await library.root.call("GET", "/api/admin/loras/cache-stats")


async def test_what_agents_say_is_shown_of_each_and_summed_and_the_rest_is_null(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    metrics = FilesMetrics(registry)
    metrics.holds(statistics(used_bytes=300, budget_bytes=1000, versions=3, in_use=1, hits=9, misses=1))

    async def expose(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(registry))

    application = web.Application()
    application.router.add_get("/metrics", expose)
    runner = web.AppRunner(application)
    await runner.setup()
    port = await listen(runner, "127.0.0.1", 0)
    kube = Endpoints("127.0.0.1:8000", "127.0.0.2:8000", "")
    try:
        async with served(tmp_path) as library:
            stats = CacheStats(cast(Kube, kube), "models", port)
            status, body = await with_stats(library, stats)
            assert status == 200
            known, silent, placeless = body["pods"]
            assert known | {"used_bytes": 300, "budget_bytes": 1000, "utilisation": 0.3, "hit_rate": 0.9} == known
            assert (known["adapters"], known["in_use"], known["loaded"]) == (3, 1, 2)
            assert silent == {"pod": "vllm-1", "loaded": 2, **UNKNOWN} and placeless["used_bytes"] is None
            total = body["total"]
            assert (total["pods"], total["pods_known"], total["used_bytes"], total["utilisation"]) == (3, 1, 300, 0.3)
            await library.root.call("GET", "/api/admin/loras/cache-stats")
            assert kube.asked == 3, "agents are asked once, however many ask for it"
            assert (await library.alice.call("GET", "/api/admin/loras/cache-stats"))[0] == 403
            kube.down = True
            status, body = await with_stats(library, CacheStats(cast(Kube, kube), "models", port))
            assert (status, body["code"]) == (503, "CLUSTER_UNAVAILABLE")
    finally:
        await runner.cleanup()


async def test_without_a_cluster_nothing_is_known_of_any_disk(library: Running) -> None:
    status, body = await library.root.call("GET", "/api/admin/loras/cache-stats")
    assert (status, body["pods"], body["total"]["pods"], body["total"]["used_bytes"]) == (200, [], 0, None)
