"""The change stream (Server-Sent Events): a snapshot, then every change, resumable by Last-Event-ID.

No client has a queue: each has a place in the table's bounded log, and what it was sent and has not read is in its
socket. One whose socket stays full is cut off, and goes on from its Last-Event-ID when it comes again.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from lora_operator.router.entries import Entry
from lora_operator.router.freshness import Freshness
from lora_operator.router.lines import Lines, dumped, with_member
from lora_operator.router.queries import selected
from lora_operator.router.table import Change, RoutingTable

PAGE_BYTES = 64 << 10
BATCH = 200
SEND_BUFFER_BYTES = 256 << 10


@dataclass(frozen=True, slots=True)
class StreamLimits:
    """Times in seconds. `slow`: how long one write may wait for the client to read."""

    heartbeat_seconds: float = 10.0
    slow_seconds: float = 10.0
    most: int = 1000


@dataclass(frozen=True, slots=True)
class Selection:
    """What a client wants to hear of; None is all."""

    base_model: str | None = None
    namespace: str | None = None

    def has(self, entry: Entry | None) -> bool:
        return entry is not None and selected(entry, self.base_model, self.namespace)


class SlowClient(Exception):
    """It did not read for too long."""


class Streams:
    """All clients of the change stream."""

    def __init__(self, table: RoutingTable, lines: Lines, freshness: Freshness, limits: StreamLimits) -> None:
        self._table = table
        self._freshness = freshness
        self._limits = limits
        self._stopping = False
        self._waiting: set[asyncio.Future[None]] = set()
        self._lines = lines
        self.open = 0
        table.listen(self._wake)

    @property
    def full(self) -> bool:
        return self.open >= self._limits.most

    def stop(self) -> None:
        """End all streams; the clients come again, here or elsewhere."""
        self._stopping = True
        self._wake()

    def _wake(self) -> None:
        for future in self._waiting:
            if not future.done():
                future.set_result(None)
        self._waiting.clear()

    async def serve(
        self, request: web.Request, response: web.StreamResponse, selection: Selection, last_event_id: str | None
    ) -> str:
        """Write until the client goes; why it ended, in a word."""
        self.open += 1
        try:
            if request.transport is not None:
                _bound(request.transport)
            await self._serve(response, selection, last_event_id)
            return "Stopping"
        except SlowClient:
            if request.transport is not None:
                request.transport.abort()
            return "TooSlow"
        except ConnectionError:
            return "ClientGone"
        except asyncio.CancelledError:
            if self._stopping:
                raise
            return "ClientGone"
        finally:
            self.open -= 1

    async def _serve(self, response: web.StreamResponse, selection: Selection, last_event_id: str | None) -> None:
        version = None
        if last_event_id is not None:
            version, why = self._resume(last_event_id)
            if version is None:
                await self._write(response, event("reset", {"status": 410, "reason": why}))
        if version is None:
            version = await self._snapshot(response, selection)
        while not self._stopping:
            changes = self._table.since(version)
            if changes is None:
                why = f"the change log no longer goes back to {self._table.epoch}-{version}"
                await self._write(response, event("reset", {"status": 410, "reason": why}))
                version = await self._snapshot(response, selection)
            elif changes:
                for start in range(0, len(changes), BATCH):
                    part = changes[start : start + BATCH]
                    await self._write(response, b"".join(self._events(part, selection)))
                version = changes[-1].version
            elif not await self._news():
                beat = {"version": self._table.tag, "ageSeconds": rounded(self._freshness.age_seconds)}
                await self._write(response, event("heartbeat", beat))

    def _resume(self, last_event_id: str) -> tuple[int | None, str]:
        """The version to go on from, or why there is none."""
        epoch, _, number = last_event_id.rpartition("-")
        if epoch != self._table.epoch:
            return None, f"{last_event_id[:64]} is of another replica, or of one that was restarted"
        if not (number.isascii() and number.isdigit() and len(number) < 20):
            return None, f"{last_event_id[:64]} is no version"
        if self._table.since(int(number)) is None:
            return None, f"the change log does not go back to {last_event_id}"
        return int(number), ""

    async def _snapshot(self, response: web.StreamResponse, selection: Selection) -> int:
        """Page by page, as of one version: what changes meanwhile comes as changes afterwards. Returns the version."""
        version, tag = self._table.version, self._table.tag
        entries = [entry for entry in self._table.after() if selection.has(entry)]
        at, first = 0, True
        while first or at < len(entries):
            page: list[bytes] = []
            size = 0
            while at < len(entries) and size < PAGE_BYTES:
                page.append(self._lines.of(entries[at]))
                size += len(page[-1])
                at += 1
            more = at < len(entries)
            body = {"version": tag, "first": first, "more": more}
            data = with_member(body, "adapters", b"[" + b",".join(page) + b"]")
            # only the whole can be resumed from
            await self._write(response, framed("snapshot", data, "" if more else tag))
            first = False
            await asyncio.sleep(0)  # a write waits only where the socket is full: let others in all the same
        return version

    def _events(self, changes: list[Change], selection: Selection) -> Iterator[bytes]:
        for change in changes:
            tag = f"{self._table.epoch}-{change.version}"
            entry = change.after if selection.has(change.after) else change.before
            if entry is None or not selection.has(entry):
                continue
            body = {"version": tag, "type": "Deleted", "namespace": entry.namespace, "name": entry.name}
            if entry is change.after:
                data = with_member(body | {"type": "Set"}, "adapter", self._lines.of(entry))
            else:
                data = dumped(body)
            yield framed("change", data, tag)

    async def _news(self) -> bool:
        """Wait for a change; false if it is time for a heartbeat."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.add(future)
        try:
            async with asyncio.timeout(self._limits.heartbeat_seconds):
                await future
        except TimeoutError:
            return False
        finally:
            self._waiting.discard(future)
        return True

    async def _write(self, response: web.StreamResponse, data: bytes) -> None:
        if not data:
            return
        try:
            async with asyncio.timeout(self._limits.slow_seconds):
                await response.write(data)
        except TimeoutError as error:
            raise SlowClient from error


def _bound(transport: asyncio.Transport) -> None:
    """The kernel would keep megabytes for a client that does not read, and it would long look as if it did."""
    transport.set_write_buffer_limits(high=SEND_BUFFER_BYTES)
    connection = transport.get_extra_info("socket")
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)


def event(name: str, body: dict[str, Any], identifier: str = "") -> bytes:
    """One event; without an identifier it does not move the client's place."""
    return framed(name, dumped(body), identifier)


def framed(name: str, data: bytes, identifier: str) -> bytes:
    head = f"id: {identifier}\nevent: {name}\ndata: " if identifier else f"event: {name}\ndata: "
    return head.encode() + data + b"\n\n"


def rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)
