"""An engine that answers what a test tells it to, byte for byte: recorded bodies, silence, and broken connections."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from lora_operator.vllm.client import Endpoint

LOAD = ("POST", "/v1/load_lora_adapter")
UNLOAD = ("POST", "/v1/unload_lora_adapter")
MODELS = ("GET", "/v1/models")


@dataclass(frozen=True)
class Reply:
    status: int = 200
    body: bytes = b""
    hang: bool = False  # answer nothing until the test ends
    cut: bool = False  # close the connection without an answer
    headers: dict[str, str] = field(default_factory=dict)


HANG = Reply(hang=True)
CUT = Reply(cut=True)
BARE_NOT_FOUND = Reply(404, b'{"detail":"Not Found"}')
UNAUTHORIZED = Reply(401, b'{"error":"Unauthorized"}')


def loaded(name: str) -> Reply:
    return Reply(200, f"Success: LoRA adapter '{name}' added successfully.".encode())


def unloaded(name: str) -> Reply:
    return Reply(200, f"Success: LoRA adapter '{name}' removed successfully.".encode())


def nested(status: int, type_: str, message: str) -> Reply:
    """As 0.10 and later answer."""
    error = {"message": message, "type": type_, "param": None, "code": status}
    return Reply(status, json.dumps({"error": error}).encode())


def flat(status: int, type_: str, message: str) -> Reply:
    """As 0.8 answers."""
    error = {"object": "error", "message": message, "type": type_, "param": None, "code": status}
    return Reply(status, json.dumps(error).encode())


def listing(**adapters: str) -> Reply:
    """/v1/models with the base model `tiny` and these adapters (name=path)."""
    base = {"id": "tiny", "object": "model", "created": 1795000000, "owned_by": "vllm", "root": "/models/tiny"}
    base |= {"parent": None, "max_model_len": 128, "permission": [{"id": "modelperm-1"}]}
    entries: list[dict[str, Any]] = [base]
    for name, path in adapters.items():
        entries.append({**base, "id": name, "root": path, "parent": "tiny", "max_model_len": None})
    return Reply(200, json.dumps({"object": "list", "data": entries}).encode())


Answer = Reply | Callable[[dict[str, Any]], Reply]


class ReplayedEngine:
    """`answers` by method and path: one for all requests, or a list of which the last one stays."""

    def __init__(self) -> None:
        self.answers: dict[tuple[str, str], Answer | list[Answer]] = {MODELS: listing()}
        self.requests: list[tuple[str, str]] = []
        self.headers: list[dict[str, str]] = []
        self.bodies: list[Any] = []
        self.endpoint = Endpoint("127.0.0.1", 0)
        self._over = asyncio.Event()

    def says(self, route: tuple[str, str], *answers: Answer) -> None:
        self.answers[route] = list(answers)

    def count(self, route: tuple[str, str]) -> int:
        return self.requests.count(route)

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        route = (request.method, request.path)
        body = await request.json() if request.can_read_body else {}
        self.requests.append(route)
        self.headers.append(dict(request.headers))
        self.bodies.append(body)
        answer = self.answers.get(route, BARE_NOT_FOUND)
        if isinstance(answer, list):
            answer = answer.pop(0) if len(answer) > 1 else answer[0]
        reply = answer if isinstance(answer, Reply) else answer(body)
        if reply.hang:
            await self._over.wait()
        if (reply.cut or reply.hang) and request.transport is not None:
            request.transport.abort()
        return web.Response(status=reply.status, body=reply.body, headers=reply.headers)


@asynccontextmanager
async def replayed_engine() -> AsyncIterator[ReplayedEngine]:
    """Listening on a free port of loopback until the block ends."""
    engine = ReplayedEngine()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", engine._serve)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    engine.endpoint = Endpoint("127.0.0.1", runner.addresses[0][1])
    try:
        yield engine
    finally:
        engine._over.set()
        await runner.cleanup()
