"""Whether the pod may take traffic, as far as its adapters go: what the agent's /readyz answers.

The operator says when the engine holds what is planned for the pod. Nobody has to be there to say it: the pod opens by
itself some time after its engine listens, sooner where the operator is silent. Once open it stays open for as long as
that engine may be serving, whatever becomes of the operator, the disk, the token or the agent itself.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from lora_operator.agent_api.marker import Marker
from lora_operator.agent_api.wire import ReadinessBody

log = logging.getLogger(__name__)

DISK_SECONDS = 2.0
CONNECT_SECONDS = 0.5
LATEST_SECONDS = 1800.0  # also where the engine listens on another port than this agent was told


class Readiness:
    """`engine_port` 0: the times count from the agent's start. Monotonic time."""

    def __init__(
        self,
        marker: Marker,
        *,
        engine_port: int,
        ready_seconds: float,
        silence_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._marker = marker
        self._engine_port = engine_port
        self._ready_seconds = ready_seconds
        self._silence_seconds = silence_seconds
        self._clock = clock
        self._opened: str | None = None  # for which container of the engine, empty if nobody has named it
        self._said_at = clock()
        self._closed_since: float
        self._listens_since: float | None
        self._begin()
        self._container = ""  # that the operator named last
        self._waits_for = "the operator has said nothing about this pod yet"
        self._disk = asyncio.Lock()

    @property
    def is_open(self) -> bool:
        return self._opened is not None

    async def load(self) -> None:
        """Take up what an earlier agent of this pod left. A disk that does not tell closes no pod that may serve."""
        try:
            self._opened = await asyncio.wait_for(asyncio.to_thread(self._marker.read), DISK_SECONDS)
        except (OSError, TimeoutError) as error:
            log.warning("whether this pod was open cannot be read, so it is: %s", _text(error))
            self._opened = ""

    async def hear(self, said: ReadinessBody, address: str) -> None:
        """The operator has said how it is. `address`: where this pod is reached, and its engine with it."""
        self._said_at = self._clock()
        self._waits_for = said.message
        anew = self._container not in ("", said.container)
        self._container = said.container
        if said.open:
            await self._open(said.container, said.message)
        elif self._opened is not None and self._opened != said.container:
            # one that listens may be serving: what comes late is old
            if not self._opened or await self._listens(address):
                await self._open(said.container, "")
            else:
                log.info("closed, as the engine is another container: %s", said.message)
                await self._note(None)
                self._begin()
        elif self._opened is None and anew:
            self._begin()

    async def lacks(self, address: str) -> str:
        """Why the pod should have no traffic yet; empty if it may."""
        if self._opened is not None:
            return ""
        now = self._clock()
        if self._listens_since is None and await self._listens(address):
            self._listens_since = now
        since = self._listens_since
        if since is None:
            if now - self._closed_since < LATEST_SECONDS:
                return f"the engine does not listen on port {self._engine_port}"
            why = f"the engine was not seen on port {self._engine_port} for {LATEST_SECONDS:g} s: see --engine-port"
        elif now - since >= self._ready_seconds:
            why = f"the engine listens for {self._ready_seconds:g} s"
        elif now - max(since, self._said_at) >= self._silence_seconds:
            why = f"the operator has said nothing for {self._silence_seconds:g} s"
        else:
            return self._waits_for
        await self._open("", f"{why}; it was waiting for this: {self._waits_for}")
        return ""

    def _begin(self) -> None:
        """The times count for one engine."""
        self._closed_since = self._said_at
        self._listens_since = None if self._engine_port else self._said_at

    async def _open(self, container: str, why: str) -> None:
        if self._opened is None:
            log.info("open to traffic: %s", why)
        if self._opened != container and (container or self._opened is None):
            await self._note(container)

    async def _note(self, opened: str | None) -> None:
        self._opened = opened
        async with self._disk:
            try:
                await asyncio.wait_for(asyncio.to_thread(self._marker.write, self._opened), DISK_SECONDS)
            except (OSError, TimeoutError) as error:
                log.warning("an agent that starts anew will not know that this pod is open: %s", _text(error))

    async def _listens(self, address: str) -> bool:
        """vLLM listens once its model is loaded. A connection tells, with TLS and API keys as well as without."""
        if not self._engine_port:
            return True
        try:
            connecting = asyncio.open_connection(address, self._engine_port)
            _, writer = await asyncio.wait_for(connecting, CONNECT_SECONDS)
        except (OSError, TimeoutError):
            return False
        writer.close()
        return True


def _text(error: Exception) -> str:
    return str(error) or type(error).__name__
