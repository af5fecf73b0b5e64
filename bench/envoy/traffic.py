"""Requests through a gateway, and an engine that answers each at once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

PROMPT = "Summarise the following in one sentence. " * 10


def completion(adapter: str) -> bytes:
    """A request as clients of OpenAI's API send it, of some 500 bytes."""
    body = json.dumps({"model": adapter, "prompt": PROMPT, "max_tokens": 16, "temperature": 0.0}).encode()
    head = (
        f"POST /v1/completions HTTP/1.1\r\nHost: gateway\r\nUser-Agent: bench\r\nAccept: */*\r\n"
        f"Authorization: Bearer none\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


@asynccontextmanager
async def an_engine() -> AsyncIterator[int]:
    """Its port. It looks at nothing but where a request ends."""
    server = await asyncio.get_running_loop().create_server(_Engine, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


class _Engine(asyncio.Protocol):
    ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._rest = b""

    def data_received(self, data: bytes) -> None:
        self._rest += data
        head, found, body = self._rest.partition(b"\r\n\r\n")
        if not found:
            return
        head = head.lower()
        if b"chunked" in head:
            done = body.endswith(b"0\r\n\r\n")
        else:
            done = len(body) >= int(head.partition(b"content-length: ")[2].split(b"\r")[0])
        if done:
            self._rest = b""
            self._transport.write(self.ANSWER)  # type: ignore[attr-defined]
