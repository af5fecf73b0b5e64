"""Stores that somebody hostile runs: what they may not learn, make us write down, or keep busy."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager

import pytest

from lora_operator.sources import Credentials, SourceError, SourceRequest
from lora_operator.sources.azure import AzureSource
from lora_operator.sources.remote_store import ObjectSource, Timing
from lora_operator.sources.s3 import S3Source

SAS = Credentials((("AZURE_STORAGE_SAS_TOKEN", "sv=2024-01-01&sig=s3cr3t"),))
KEYS = Credentials((("AWS_ACCESS_KEY_ID", "id"), ("AWS_SECRET_ACCESS_KEY", "s3cr3t")))
TRICKLE = Timing(read_seconds=60.0, attempts=1, deadline_seconds=0.5)
Answer = Callable[[asyncio.Transport], Coroutine[None, None, None]]


class _Connection(asyncio.Protocol):
    """Answers once a request has come, and is known from its first moment, so that all can be closed in the end."""

    def __init__(self, answer: Answer, open_: set[asyncio.Transport], tasks: set[asyncio.Task[None]]) -> None:
        self._answer = answer
        self._open = open_
        self._tasks = tasks
        self._asked = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._open.add(transport)

    def connection_lost(self, error: Exception | None) -> None:
        self._open.discard(self._transport)

    def data_received(self, data: bytes) -> None:
        self._asked += data
        if b"\r\n\r\n" in self._asked:
            self._asked = b""
            task = asyncio.get_running_loop().create_task(self._answer(self._transport))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)


@asynccontextmanager
async def a_server(answer: Answer) -> AsyncIterator[str]:
    tasks: set[asyncio.Task[None]] = set()
    open_: set[asyncio.Transport] = set()
    server = await asyncio.get_running_loop().create_server(lambda: _Connection(answer, open_, tasks), "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for _ in range(5):
            await asyncio.sleep(0.01)  # who was just let in is only known some turns of the loop later
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for transport in open_:
            transport.abort()
        await asyncio.sleep(0)


async def byte_by_byte(transport: asyncio.Transport) -> None:
    transport.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
    while not transport.is_closing():
        transport.write(b"x")
        await asyncio.sleep(0.02)


async def senseless(transport: asyncio.Transport) -> None:
    transport.write(b"HTTP/1.1 200 OK\r\nthis is no header\r\nContent-Length: 0\r\n\r\n")
    transport.close()


def store(kind: str, endpoint: str, timing: Timing) -> tuple[ObjectSource, SourceRequest]:
    if kind == "azure":
        return AzureSource(timing=timing), SourceRequest(
            "azure", "account/container", endpoint=endpoint, credentials=SAS
        )
    return S3Source(timing=timing), SourceRequest("s3", "bucket", endpoint=endpoint, credentials=KEYS)


@pytest.mark.parametrize("kind", ["azure", "s3"])
async def test_one_that_trickles_keeps_no_thread_from_the_others(kind: str) -> None:
    async with a_server(byte_by_byte) as endpoint:
        source, request = store(kind, endpoint, TRICKLE)
        tries = [source.resolve(request, None) for _ in range(8)]
        outcomes = await asyncio.gather(*tries, return_exceptions=True)
        assert {each.reason for each in outcomes if isinstance(each, SourceError)} == {"TimedOut"}
        async with asyncio.timeout(60):
            await asyncio.gather(*(source._threads.run(lambda: None) for _ in range(8)))


@pytest.mark.parametrize("kind", ["azure", "s3"])
async def test_an_answer_that_makes_no_sense_has_no_url_written_down(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with a_server(senseless) as endpoint:
        source, request = store(kind, endpoint, Timing(attempts=1))
        with pytest.raises(SourceError):
            await source.resolve(request, None)
    assert "s3cr3t" not in caplog.text and "Failed to parse headers" not in caplog.text
