"""An idle connection to each engine, which breaks the moment the engine's process ends: the kernel tells, no one polls.

That costs nothing while nothing happens, so that a death is known at once however many pods there are and however
rarely each is probed. It is a hint and no more: a mesh or a server that closes idle connections breaks one too, and a
machine that is lost breaks none. What is so, the probe that follows says.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress

from lora_operator.vllm.answers import Endpoint

CONNECT_SECONDS = 1.0
AGAIN_SECONDS = 30.0  # until one that broke though the engine was well is put up once more


class Tripwires:
    """One for each key; `tripped` is called with the key of one that broke."""

    def __init__(self, tripped: Callable[[str], None]) -> None:
        self._tripped = tripped
        self._wires: dict[str, asyncio.Transport] = {}
        self._tried: dict[str, float] = {}

    async def stretch(self, key: str, endpoint: Endpoint) -> None:
        """Put one up to an engine that is known to answer, unless it is there, or was tried a moment ago."""
        now = time.monotonic()
        if key in self._wires or now - self._tried.get(key, now - AGAIN_SECONDS) < AGAIN_SECONDS:
            return
        self._tried[key] = now
        with suppress(OSError, ValueError, OverflowError):  # then there is none, and probes have to find out
            async with asyncio.timeout(CONNECT_SECONDS):
                loop = asyncio.get_running_loop()
                transport, _ = await loop.create_connection(
                    lambda: _Wire(lambda wire: self._broke(key, wire)), endpoint.address, endpoint.port
                )
                self._wires[key] = transport

    def cut(self, key: str) -> None:
        """Take it down; the next engine of this key gets one at once."""
        self._tried.pop(key, None)
        wire = self._wires.pop(key, None)
        if wire is not None:
            wire.abort()

    def cut_all(self) -> None:
        for key in list(self._wires):
            self.cut(key)

    def _broke(self, key: str, wire: asyncio.BaseTransport | None) -> None:
        if wire is not None and self._wires.get(key) is wire:
            del self._wires[key]
            self._tripped(key)


class _Wire(asyncio.Protocol):
    def __init__(self, broke: Callable[[asyncio.BaseTransport | None], None]) -> None:
        self._broke = broke
        self._transport: asyncio.BaseTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self._broke(self._transport)
