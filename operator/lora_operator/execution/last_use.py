"""Whether an engine has anything to do: who reads routing tables cannot be seen, as anybody may read a status; that
requests come can.

An engine tells when it last did a step, with which adapters or none. Which adapter a request was for is not told where
it took one step alone, so that only an engine at rest is sure of any of them.
"""

from __future__ import annotations

import asyncio
import time

from lora_operator.engines.prober import Engines
from lora_operator.vllm.client import EngineClient
from lora_operator.vllm.errors import EngineError
from lora_operator.vllm.metrics import EngineMetrics

REST_SECONDS = 60.0  # by the engine's clock, which may differ from ours by less


class LastUse:
    """Reads an engine's metrics once for all who want to know at the same time."""

    def __init__(self, engines: Engines, client: EngineClient) -> None:
        self._engines = engines
        self._client = client
        self._to_come: dict[str, asyncio.Task[EngineMetrics | None]] = {}  # readings that have not begun, by pod

    async def rests(self, pod: str) -> bool:
        """Whether the engine is sure that no request has come lately, as of now. Raises nothing."""
        reading = self._to_come.get(pod)
        if reading is None:
            reading = self._to_come[pod] = asyncio.create_task(self._read(pod), name=f"last use on {pod}")
        page = await asyncio.shield(reading)
        return page is not None and at_rest(page, time.time())

    async def _read(self, pod: str) -> EngineMetrics | None:
        await asyncio.sleep(0)  # who asks in this turn shares it
        del self._to_come[pod]
        try:
            return await self._client.metrics(self._engines.endpoint(pod))
        except EngineError:
            return None


def at_rest(page: EngineMetrics, now: float) -> bool:
    """Whether the page says that nothing was asked of the engine for a while; `now` in seconds since the epoch. One
    that keeps no statistics says nothing."""
    if page.requests_finished is None or page.requests_running or page.requests_waiting:
        return False
    if not page.moments:  # there are none before the first request
        return not page.requests_finished
    return now - page.moments[0].at > REST_SECONDS
