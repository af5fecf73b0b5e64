"""Clients: some that ask as fast as they are answered, and one of the stream that notes when it learnt what."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType

import psutil

from lora_operator.router.client import Json, TableCopy


@dataclass(frozen=True, slots=True)
class Load:
    """Answers per second of the server's CPU time, and the seconds that each took as its client saw it."""

    per_core: float
    seconds: list[float]


async def load(pid: int, port: int, requests: list[bytes], connections: int) -> Load:
    """Send each request once over kept connections; all must be answered with 200."""
    process, seconds = psutil.Process(pid), list[float]()
    before = process.cpu_times()
    shares = [requests[number::connections] for number in range(connections)]
    await asyncio.gather(*(_ask(port, share, seconds) for share in shares))
    after = process.cpu_times()
    cpu = after.user + after.system - before.user - before.system
    return Load(len(requests) / max(cpu, 0.01), seconds)


async def _ask(port: int, requests: list[bytes], seconds: list[float]) -> None:
    # bare sockets: the clients share the machine with the server that is measured
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for request in requests:
        started = time.perf_counter()
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        assert head.startswith(b"http/1.1 200"), head
        await reader.readexactly(int(head.split(b"content-length: ")[1].split(b"\r")[0]))
        seconds.append(time.perf_counter() - started)
    writer.close()


def pick_request(adapter: str) -> bytes:
    body = f'{{"adapter":"{adapter}"}}'.encode()
    head = f"POST /v1/pick HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def pods_request(adapter: str) -> bytes:
    return f"GET /v1/adapters/{adapter}/pods HTTP/1.1\r\nHost: x\r\n\r\n".encode()


@dataclass(frozen=True, slots=True)
class Learnt:
    """`pods` answer for the adapter, as the client knows since `at` (time.time())."""

    at: float
    adapter: str
    pods: frozenset[str]


class Noting(TableCopy):
    """Notes each change."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.learnt: list[Learnt] = []

    def _take(self, kind: str, identifier: str, body: Json) -> None:
        if kind == "change":
            pods = frozenset(one["pod"] for one in (body.get("adapter") or {}).get("pods", ()))
            self.learnt.append(Learnt(time.time(), body["name"], pods))
        super()._take(kind, identifier, body)


class Watcher:
    """A client of the stream in a thread of its own, for as long as it is entered."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._ready = threading.Event()
        self.copy: Noting

    def __enter__(self) -> Watcher:
        self._thread.start()
        assert self._ready.wait(30), f"no snapshot from {self._url}"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._following.cancel)
        self._thread.join(10)

    def until(self, done: Callable[[TableCopy], bool], timeout: float = 30.0) -> None:
        async def wait() -> None:
            async with asyncio.timeout(timeout):
                await self.copy.until(done)

        asyncio.run_coroutine_threadsafe(wait(), self._loop).result()

    def _run(self) -> None:
        async def follow() -> None:
            self.copy = Noting(self._url)
            self._following = asyncio.create_task(self.copy.run())
            await self.copy.until(lambda _: True)
            self._ready.set()
            await asyncio.gather(self._following, return_exceptions=True)

        self._loop.run_until_complete(follow())
        self._loop.close()
