"""A copy of the routing table that follows `/v1/watch`, for routers written in Python, and for the tests."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import aiohttp

log = logging.getLogger(__name__)

Json = dict[str, Any]
Key = tuple[str, str]
AGAIN_SECONDS = (0.05, 0.2, 0.5, 1.0, 2.0)
SILENCE_SECONDS = 35.0  # the server's heartbeat comes every ten


class TableCopy:
    """`run` follows until cancelled, through restarts of the server; while it is away the copy stays as it was.

    `adapters`: (namespace, name) -> the model `Adapter` of the OpenAPI document. Give several `urls` of replicas: the
    next is asked where one does not answer.
    """

    def __init__(
        self, urls: str | list[str], *, query: dict[str, str] | None = None, silence_seconds: float = SILENCE_SECONDS
    ) -> None:
        self._urls = [urls] if isinstance(urls, str) else list(urls)
        self._query = query or {}
        self._silence = silence_seconds
        self._coming: dict[Key, Json] = {}
        self._news = asyncio.Event()
        self.adapters: dict[Key, Json] = {}
        self.version = ""  # empty until the first snapshot is whole
        self.connections = 0
        self.resets = 0

    def pods(self, namespace: str, name: str) -> list[Json]:
        """The pods that answer for it: `pod`, `address`, `engineName`; none if it is unknown."""
        return list(self.adapters.get((namespace, name), {}).get("pods", ()))

    async def until(self, done: Callable[[TableCopy], bool]) -> None:
        """Wait until the copy is so."""
        while not (self.version and done(self)):
            self._news.clear()
            await self._news.wait()

    async def run(self) -> None:
        """Until cancelled."""
        failures = 0
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=5.0, sock_read=self._silence)
        async with aiohttp.ClientSession(timeout=timeout, trust_env=True) as session:
            while True:
                url = self._urls[failures % len(self._urls)]
                try:
                    async for kind, identifier, body in self._events(session, url):
                        failures = 0
                        self._take(kind, identifier, body)
                    log.debug("the stream of %s has ended", url)
                except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
                    log.info("the stream of %s broke, the copy stays as it is: %s", url, error or type(error).__name__)
                await asyncio.sleep(AGAIN_SECONDS[min(failures, len(AGAIN_SECONDS) - 1)])
                failures += 1

    async def _events(self, session: aiohttp.ClientSession, url: str) -> AsyncIterator[tuple[str, str, Json]]:
        headers = {"Accept": "text/event-stream"} | ({"Last-Event-ID": self.version} if self.version else {})
        async with session.get(f"{url}/v1/watch", params=self._query, headers=headers) as answer:
            answer.raise_for_status()
            self.connections += 1
            rest = b""
            async for chunk in answer.content.iter_any():
                *blocks, rest = (rest + chunk).split(b"\n\n")
                for block in blocks:
                    fields = dict(line.split(": ", 1) for line in block.decode().split("\n") if ": " in line)
                    if "data" in fields:
                        yield fields.get("event", "message"), fields.get("id", ""), json.loads(fields["data"])

    def _take(self, kind: str, identifier: str, body: Json) -> None:
        if kind == "snapshot":
            # the old state is good until the new one is whole
            if body["first"]:
                self._coming = {}
            self._coming |= {(one["namespace"], one["name"]): one for one in body["adapters"]}
            if not body["more"]:
                self.adapters, self._coming = self._coming, {}
        elif kind == "change":
            key = (body["namespace"], body["name"])
            if body["type"] == "Set":
                self.adapters[key] = body["adapter"]
            else:
                self.adapters.pop(key, None)
        elif kind == "reset":
            self.resets += 1
        if identifier:
            self.version = identifier
            self._news.set()
