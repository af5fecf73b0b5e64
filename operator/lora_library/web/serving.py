"""uvicorn, with a bound on how long a client may take for the headers of a request."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

HEADER_SECONDS = 60.0
KEEP_ALIVE_SECONDS = 60
CLOSE_SECONDS = 20


class PatientNoLonger(H11Protocol):
    """Closes connections whose next request does not begin to be a whole one in time."""

    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._asked() or self.transport.is_closing():
            self._forget()
        elif self._late is None:
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget()
        super().connection_lost(exc)

    def _asked(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _wait(self) -> None:
        self._late = self.loop.call_later(HEADER_SECONDS, self._close)

    def _close(self) -> None:
        self._late = None
        if not self._asked():
            self.transport.close()

    def _forget(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None


class Server(uvicorn.Server):
    """Ends when it is told to by us: signals are the command's."""

    def __init__(self, app: Any) -> None:
        super().__init__(
            uvicorn.Config(
                app, http=PatientNoLonger, ws="none", lifespan="off", log_config=None, access_log=False,
                server_header=False, timeout_keep_alive=KEEP_ALIVE_SECONDS, h11_max_incomplete_event_size=16384,
                timeout_graceful_shutdown=CLOSE_SECONDS,
            )
        )  # fmt: skip

    async def run_on(self, opened: socket.socket) -> None:
        # what `serve` does, but for taking the signals
        await self._serve([opened])
