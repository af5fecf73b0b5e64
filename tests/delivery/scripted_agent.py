"""An HTTP server in an agent's place: it notes what it is asked, and answers as it is told."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from lora_operator.vllm.answers import Endpoint

TOKEN = "t0ken-of-the-agents"
Script = tuple[int, Any]  # status, body: bytes as they are, everything else as JSON, None closes the connection


class ScriptedAgent:
    """`fetches` is used up answer by answer; then, and for all else, it is an agent that has everything at once."""

    def __init__(self, port: int = 0) -> None:
        self.fetches: deque[Script] = deque()
        self.missing: set[str] = set()
        self.evicted: list[dict[str, Any]] = []
        self.holders: list[str] = []
        self.listing: dict[str, Any] = {"entries": [], "usedBytes": 0}
        self.kept: set[str] = set()  # names of what it does not remove
        self.asked: list[tuple[str, str, Any]] = []
        self.changed = asyncio.Event()  # set at every request
        self.answering = asyncio.Event()  # cleared, nothing is answered
        self.answering.set()
        self.endpoint = Endpoint("127.0.0.1", port)
        self._runner: web.ServerRunner | None = None

    async def __aenter__(self) -> Self:
        self._runner = web.ServerRunner(web.Server(self._answer, access_log=None), shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.endpoint.port).start()
        self.endpoint = Endpoint("127.0.0.1", self._runner.addresses[0][1])
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._runner is not None
        self.answering.set()
        await self._runner.cleanup()

    def of(self, path: str) -> list[Any]:
        """The bodies that came to paths that begin so."""
        return [body for _, asked, body in self.asked if asked.startswith(path)]

    async def until_asked(self, path: str, times: int) -> None:
        """Wait until so many requests came to paths that begin so."""
        while len(self.of(path)) < times:
            self.changed.clear()
            await self.changed.wait()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        text = await request.read()
        self.asked.append((request.method, request.path, json.loads(text) if text else None))
        self.changed.set()
        await self.answering.wait()
        if request.path == "/v1/loaded":
            versions = [each for each in self.asked[-1][2]["versions"] if each["name"] not in self.missing]
            evicted, self.evicted = self.evicted, []
            return web.json_response({"versions": versions, "evicted": evicted, "holders": self.holders})
        if request.path == "/v1/adapters":
            return web.json_response(self.listing)
        if request.method == "DELETE":
            if request.path.split("/")[3] in self.kept:
                return web.json_response({"reason": "InUse", "message": "another pod has it"}, status=409)
            return web.Response(status=204)
        if request.path == "/v1/readiness":
            return web.json_response({"open": self.asked[-1][2]["open"]})
        status, body = self.fetches.popleft() if self.fetches else (200, an_entry(request.path, "Present"))
        if body is None:
            assert request.transport is not None
            request.transport.close()
            return web.Response()
        if isinstance(body, bytes):
            return web.Response(status=status, body=body)
        return web.json_response(body, status=status)


def an_entry(path: str, state: str, **changes: Any) -> dict[str, Any]:
    """As an agent answers an order at `path`."""
    _, _, _, name, fingerprint = path.split("?")[0].split("/")
    entry = {"name": name, "fingerprint": fingerprint, "state": state, "sizeBytes": 10, "doneBytes": 5}
    return entry | changes
