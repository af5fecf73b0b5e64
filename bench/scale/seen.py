"""What anybody sees of the LoraAdapters of one namespace, followed through a watch."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable

from e2e.pods.api import Api, ApiError, Json
from e2e.world.rest import GROUP
from e2e.world.world import assigned, condition


class Seen:
    """Statuses by name of the LoraAdapter, reduced to readiness and places."""

    def __init__(self, api: Api, namespace: str) -> None:
        self._api = api
        self._path = f"{GROUP}/namespaces/{namespace}/loraadapters"
        self.ready: dict[str, bool] = {}
        self.pods: dict[str, frozenset[str]] = {}
        self._changed = asyncio.Event()

    @contextlib.asynccontextmanager
    async def following(self) -> AsyncIterator[Seen]:
        task = asyncio.create_task(self._follow())
        try:
            yield self
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def wait(self, done: Callable[[Seen], bool], timeout: float, going_on: Callable[[], bool]) -> float | None:
        """Seconds until `done`; None if it was not so in time, or what should bring it about does not go on."""
        started = time.monotonic()
        while not done(self):
            if time.monotonic() - started > timeout or not going_on():
                return None
            self._changed.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), 0.5)
            await asyncio.sleep(0.005)
        return time.monotonic() - started

    async def _follow(self) -> None:
        while True:
            with contextlib.suppress(ApiError):  # the API server may be slow, or away
                await self._list_and_watch()
            await asyncio.sleep(0.1)

    async def _list_and_watch(self) -> None:
        listed = await self._api.get(self._path)
        self.ready.clear()
        self.pods.clear()
        for body in listed["items"]:
            self._take(body)
        self._changed.set()
        async for kind, body in self._api.watch(self._path, {}, listed["metadata"]["resourceVersion"]):
            if kind == "DELETED":
                self.ready.pop(body["metadata"]["name"], None)
                self.pods.pop(body["metadata"]["name"], None)
            elif kind != "BOOKMARK":
                self._take(body)
            self._changed.set()

    def _take(self, body: Json) -> None:
        status, name = body.get("status") or {}, body["metadata"]["name"]
        self.ready[name] = condition(status, "Ready") == "True"
        self.pods[name] = frozenset(assigned(status))
