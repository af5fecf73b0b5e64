"""The server: files in memory or on disk, a limited rate, and faults for the next answers or for all."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import ssl
from collections import deque
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from aiohttp import web

from e2e.stores.proxy.fault import Fault
from lora_operator.fetch.pace import Bandwidth

BLOCK_BYTES = 64 << 10
_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


@dataclass(frozen=True, slots=True)
class Seen:
    """A request that came in."""

    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str] = field(repr=False)

    @property
    def range(self) -> str:
        return self.headers.get("Range", "")


class FaultyStore:
    """Serves `files` (path → bytes, or a file on disk) over HTTP on a free port of `listen` while it is entered.

    `script` is used up answer by answer; what is not in it gets `always`. `accepted`: the values of the query's `sig`
    that are let in, None for everybody. `bytes_per_second` is what all connections together get. Nothing is answered
    before `together` requests have been under way at once.
    """

    def __init__(self, files: Mapping[str, bytes | Path], *, bytes_per_second: float | None = None) -> None:
        self.files = dict(files)
        self.script: deque[Fault] = deque()
        self.always = Fault()
        self.accepted: set[str] | None = None
        self.seen: list[Seen] = []
        self.sent_bytes = 0
        self.most_at_once = 0
        self.asked = asyncio.Event()  # set at every request
        self._at_once = 0
        self.together = 0
        self._are_together = asyncio.Event()
        self.bandwidth = Bandwidth(bytes_per_second)
        self._tags: dict[str, str] = {}
        self._runner: web.ServerRunner | None = None
        self.listen = "127.0.0.1"
        self.port = self.tls_port = 0

    async def __aenter__(self) -> FaultyStore:
        self._runner = web.ServerRunner(web.Server(self._answer, access_log=None), shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self.listen, self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    @asynccontextmanager
    async def also_with(self, tls: ssl.SSLContext) -> AsyncIterator[None]:
        """Serve the same by HTTPS, on `tls_port`."""
        assert self._runner is not None
        site = web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=tls)
        await site.start()
        self.tls_port = self._runner.addresses[-1][1]
        yield
        await site.stop()

    def url(self, path: str, *, sig: str | None = None, host: str = "127.0.0.1") -> str:
        """Where a file is; `sig` plays the signature of a link."""
        return f"http://{host}:{self.port}{path}" + (f"?sig={sig}" if sig is not None else "")

    def tag(self, path: str) -> str:
        """The ETag of a file, in quotes. Computed once: delete it from `files` and add it again to change it."""
        content = self.files[path]
        if isinstance(content, Path):
            status = content.stat()
            return f'"{status.st_mtime_ns:x}-{status.st_size:x}"'
        return f'"{hashlib.sha256(content).hexdigest()[:32]}"'

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        self.seen.append(Seen(request.path, dict(request.query), dict(request.headers)))
        self.asked.set()
        fault = self.script.popleft() if self.script else self.always
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        if self.most_at_once >= self.together:
            self._are_together.set()
        try:
            await self._are_together.wait()
            return await self._answer_with(request, fault)
        finally:
            self._at_once -= 1

    async def _answer_with(self, request: web.BaseRequest, fault: Fault) -> web.StreamResponse:
        if fault.raw is not None:
            assert request.transport is not None
            request.transport.write(fault.raw)
            request.transport.close()
            return web.Response()
        if fault.redirect is not None:
            return web.Response(status=302, headers={"Location": fault.redirect, **fault.headers})
        if fault.status is not None:
            return web.Response(status=fault.status, headers=fault.headers, text="no")
        if self.accepted is not None and request.query.get("sig") not in self.accepted:
            return web.Response(status=403, text="the link has run out")
        if request.path not in self.files:
            return web.Response(status=404)
        return await self._send(request, fault, self.files[request.path])

    async def _send(self, request: web.BaseRequest, fault: Fault, content: bytes | Path) -> web.StreamResponse:
        tag = self.tag(request.path) if fault.tag is None else fault.tag
        if tag and request.headers.get("If-Match", tag) != tag:
            return web.Response(status=412)
        size = _size(content)
        begin, end, status = 0, size, 200
        wanted = _RANGE.fullmatch(request.headers.get("Range", ""))
        if wanted is not None and fault.ranges and request.headers.get("If-Range", tag) == tag:
            begin, end, status = int(wanted[1]), min(size, int(wanted[2] or size) + 1), 206
            if begin >= end:
                return web.Response(status=416, headers={"Content-Range": f"bytes */{size}"})
        response = web.StreamResponse(status=status, headers={"ETag": tag} if tag else None)
        if status == 206:
            response.headers["Content-Range"] = f"bytes {begin}-{end - 1}/{fault.size or size}"
        if not fault.chunked:
            response.content_length = end - begin if fault.announced is None else fault.announced
        response.headers.update(fault.headers)
        await response.prepare(request)
        await self._body(request, response, fault, content, begin, end)
        return response

    async def _body(
        self,
        request: web.BaseRequest,
        response: web.StreamResponse,
        fault: Fault,
        content: bytes | Path,
        begin: int,
        end: int,
    ) -> None:
        stop = min([end, *(begin + at for at in (fault.cut_after, fault.stall_after) if at is not None)])
        place = begin
        while place < stop:
            block = bytearray(_read(content, place, min(BLOCK_BYTES, stop - place)))
            if fault.corrupt_at is not None and place <= fault.corrupt_at < place + len(block):
                block[fault.corrupt_at - place] ^= 0x55
            await self.bandwidth.take(len(block))
            await response.write(block)
            self.sent_bytes += len(block)
            place += len(block)
        if fault.stall_after is not None:
            await asyncio.Event().wait()  # until the client gives up or the server ends
        if fault.cut_after is not None and request.transport is not None:
            # what was written goes out first: close, not abort
            request.transport.close()


def _size(content: bytes | Path) -> int:
    return content.stat().st_size if isinstance(content, Path) else len(content)


def _read(content: bytes | Path, begin: int, count: int) -> bytes:
    if isinstance(content, bytes):
        return content[begin : begin + count]
    descriptor = os.open(content, os.O_RDONLY)
    try:
        return os.pread(descriptor, count, begin)
    finally:
        os.close(descriptor)
