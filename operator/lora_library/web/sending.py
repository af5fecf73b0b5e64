"""Sends files of the store: whole or a range, at a bounded number of places, to clients that take them in time."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import Iterator, Mapping

from starlette.concurrency import iterate_in_threadpool
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from lora_library.receiving.pace import Meter, Pace, Places
from lora_library.stores.base import Store

_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})", re.ASCII)


class SentFile(Response):
    """A file, or its range: 200, 206 or 416. Use `first` before, so that what fails does so before an answer begins."""

    def __init__(
        self, pieces: Iterator[bytes], status: int, headers: Mapping[str, str], owner: str, at: Downloads
    ) -> None:
        self.status_code, self.background = status, None
        self.init_headers(headers)
        self._pieces, self._owner, self._at = pieces, owner, at

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._at.places.one(self._owner):
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            pace = self._at.pace
            meter = Meter(pace, lambda: self._at.places.scarce)
            async for piece in iterate_in_threadpool(self._pieces):
                # a client that takes nothing, or hardly anything, is left: it holds a place that others want
                async with asyncio.timeout(pace.stall_seconds):
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
                meter.add(len(piece))
            await send({"type": "http.response.body", "body": b"", "more_body": False})


class Downloads:
    """How many there may be at a time, and how slow."""

    def __init__(self, at_once: int, each: int, pace: Pace) -> None:
        self.places = Places(at_once, each, "TOO_MANY_DOWNLOADS", "downloads")
        self.pace = pace

    async def answer(
        self, store: Store, key: str, size_bytes: int, owner: str, headers: Mapping[str, str], wanted: str | None
    ) -> Response:
        """`wanted`: the Range header. Raises StoreError, Problem (TOO_MANY_DOWNLOADS)."""
        begin, end = range_of(wanted, size_bytes)
        given = {**headers, "Accept-Ranges": "bytes", "Content-Length": str(max(0, end - begin))}
        if begin >= end and size_bytes:
            return Response(status_code=416, headers={**headers, "Content-Range": f"bytes */{size_bytes}"})
        status = 200
        if (begin, end) != (0, size_bytes):
            status = 206
            given["Content-Range"] = f"bytes {begin}-{end - 1}/{size_bytes}"
        pieces = store.read(key, begin, end) if status == 206 else store.read(key)
        first = await asyncio.to_thread(next, pieces, b"")
        return SentFile(itertools.chain((first,), pieces), status, given, owner, self)


def range_of(wanted: str | None, size_bytes: int) -> tuple[int, int]:
    """(begin, end) of a Range header of one range; all of it where there is none, or one that means nothing."""
    found = _RANGE.fullmatch((wanted or "").replace(" ", ""))
    if not found or found[1] == found[2] == "":
        return 0, size_bytes
    if not found[1]:
        return max(0, size_bytes - int(found[2])), size_bytes
    begin, end = int(found[1]), int(found[2]) + 1 if found[2] else size_bytes
    backwards = bool(found[2]) and begin >= end
    return (0, size_bytes) if backwards else (begin, min(end, size_bytes))
