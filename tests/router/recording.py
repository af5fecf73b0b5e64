"""A router's record of who was asked for, written to an API server on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime

from lora_operator.api.usage_record import CONFIG_MAP, read_entries
from lora_operator.router.usage_recorder import UsageRecorder
from tests.core.api_server import ApiServer, an_api_server
from tests.router.serving import Clock

MAPS = "/api/v1/namespaces/system/configmaps"
MAP = f"{MAPS}/{CONFIG_MAP}"
NOW = datetime(2026, 11, 21, 17, 50, tzinfo=UTC)


@asynccontextmanager
async def an_asking(*, there: bool = True) -> AsyncIterator[tuple[ApiServer, UsageRecorder, Clock]]:
    """Writes to an API server on loopback, with the ConfigMap there or not."""
    clock = Clock()
    async with an_api_server() as api:
        if there:
            api.put(MAP, {"metadata": {"name": CONFIG_MAP, "namespace": "system", "uid": "m"}})
        asking = UsageRecorder(api.kube, "system", clock=clock, wall_clock=lambda: NOW)
        task = asyncio.create_task(asking.run())
        try:
            yield api, asking, clock
        finally:
            asking.stop()
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


def recorded(api: ApiServer) -> dict[tuple[str, str], datetime]:
    found, problems = read_entries(api.objects[MAP].get("data"))
    assert not problems
    return found
