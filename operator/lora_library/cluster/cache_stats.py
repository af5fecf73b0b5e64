"""What agents have on their disks, of each pod and in all, as their metrics say: for administrators.

Of an agent only `/metrics` is read, which needs no token. What does not answer, or does not say, is null.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Mapping
from typing import Any

import aiohttp
from prometheus_client.parser import text_string_to_metric_families

from lora_operator.api.well_known import ENDPOINTS, GROUP, VERSION
from lora_operator.kube.client import Kube

ANSWER_SECONDS = 3.0
MOST_BYTES = 1 << 20
MOST_AT_ONCE = 16
FRESH_SECONDS = 10.0
PREFIX = "lora_operator_cache_"
_SUMS = ("used_bytes", "budget_bytes", "adapters", "in_use", "pinned", "prefetched", "hits", "misses", "evictions")
Stats = dict[str, Any]


class CacheStats:
    """Of the pods of one namespace. Raises KubeError."""

    def __init__(self, kube: Kube, namespace: str, agent_port: int) -> None:
        self._kube = kube
        self._path = f"/apis/{GROUP}/{VERSION}/namespaces/{namespace}/{ENDPOINTS}"
        self._port = agent_port
        self._read: tuple[float, Stats] = (-1e9, {})
        self._reading = asyncio.Lock()

    async def read(self) -> Stats:
        """Of ten seconds ago at most: however many ask, agents are asked once."""
        async with self._reading:
            if time.monotonic() - self._read[0] > FRESH_SECONDS:
                self._read = (time.monotonic(), await self._ask_all())
            return self._read[1]

    async def _ask_all(self) -> Stats:
        pods: dict[str, Mapping[str, Any]] = {}
        query = {"limit": "500"}
        while True:
            page = await self._kube.call("GET", self._path, query=query)
            pods |= {str(each["metadata"]["name"]): each for each in page.get("items") or ()}
            if not (more := (page.get("metadata") or {}).get("continue")):
                break
            query["continue"] = str(more)
        at_once = asyncio.Semaphore(MOST_AT_ONCE)
        timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
        async with aiohttp.ClientSession(timeout=timeout) as session:

            async def of(name: str, body: Mapping[str, Any]) -> Stats:
                spec = body.get("spec") or body
                host = str(spec.get("address") or "").rpartition(":")[0]
                async with at_once:
                    text = await _metrics(session, f"http://{host}:{self._port}/metrics") if host else None
                return {"pod": name, "loaded": len(spec.get("adapters") or ()), **of_metrics(text, time.time())}

            each = await asyncio.gather(*(of(name, body) for name, body in sorted(pods.items())))
        return {"pods": each, "total": total(each)}


def of_metrics(text: str | None, now: float) -> Stats:
    """What an agent's metrics say; all of it None where there are none. Counts are since the agent's start. Pure."""
    found: dict[str, float] = {}
    try:
        for family in text_string_to_metric_families(text or ""):
            for sample in family.samples:
                if sample.name.startswith(PREFIX):
                    name = sample.name.removeprefix(PREFIX)
                    found[name] = found.get(name, 0.0) + (0 if name == "versions" else sample.value)
                    if name == "versions":
                        found[f"versions {sample.labels.get('state')}"] = sample.value
    except ValueError:
        found = {}

    def whole(name: str) -> int | None:
        return int(found[name]) if name in found and found[name] >= 0 else None

    oldest = found.get("oldest_use_timestamp_seconds")
    stats: Stats = {
        "used_bytes": whole("used_bytes"), "budget_bytes": whole("budget_bytes"),
        "adapters": whole("versions all"), "in_use": whole("versions in_use"), "pinned": whole("versions pinned"),
        "prefetched": whole("versions prefetched"), "hits": whole("hits_total"), "misses": whole("misses_total"),
        "evictions": whole("evictions_total"),
        "oldest_use_seconds": None if not oldest else max(0.0, round(now - oldest, 1)),
    }  # fmt: skip
    return stats | _ratios(stats)


def total(pods: Iterable[Stats]) -> Stats:
    """Of those that are known; None where none is. Pure."""
    pods = list(pods)
    summed: Stats = {"pods": len(pods), "pods_known": sum(each["used_bytes"] is not None for each in pods)}
    for name in _SUMS:
        known = [each[name] for each in pods if each[name] is not None]
        # a disk without a budget makes no budget of all of them
        whole = len(known) == summed["pods_known"] if name == "budget_bytes" else True
        summed[name] = sum(known) if known and whole else None
    oldest = [each["oldest_use_seconds"] for each in pods if each["oldest_use_seconds"] is not None]
    summed["oldest_use_seconds"] = max(oldest, default=None)
    return summed | _ratios(summed)


def _ratios(stats: Stats) -> Stats:
    asked = None if stats["hits"] is None or stats["misses"] is None else stats["hits"] + stats["misses"]
    budget, used = stats["budget_bytes"], stats["used_bytes"]
    return {
        "utilisation": round(used / budget, 4) if budget and used is not None else None,
        "hit_rate": round(stats["hits"] / asked, 4) if asked else None,
    }


async def _metrics(session: aiohttp.ClientSession, url: str) -> str | None:
    try:
        async with session.get(url, allow_redirects=False) as answer:
            if answer.status != 200:
                return None
            body = b""
            while not answer.content.at_eof() and len(body) <= MOST_BYTES:
                body += await answer.content.read(MOST_BYTES)
            return body.decode()
    except (aiohttp.ClientError, OSError, ValueError, TimeoutError):
        return None
