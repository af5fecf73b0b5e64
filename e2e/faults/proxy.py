"""A TCP proxy on loopback that can be told to spoil what goes through it. It knows nothing of TLS or HTTP.

    with FaultProxy("127.0.0.1", 6443) as proxy:
        ...  # let a client talk to proxy.port
        proxy.silence()       # what is open goes silent and stays open; new connections work
        proxy.block = True    # new connections are accepted, and hear nothing
        proxy.refuse = True   # new connections are reset
        proxy.reset()         # what is open is reset
        proxy.half_open()     # the server sees the end of what is open, the client does not
        proxy.delay = 0.5     # seconds, each way, for every chunk from now on
        proxy.truncate(100)   # of what is open, so many bytes more reach the client; then the connection ends
        proxy.heal()          # new connections are as they should be; what was silenced stays so

It runs in a thread of its own: tests use it from where they are, in an event loop or not.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TypeVar

T = TypeVar("T")
CHUNK_BYTES = 1 << 16


@dataclass(eq=False)
class Connection:
    """One that a client opened. `silent`: nothing goes through any more. `left`: bytes until it is cut, if ever."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter | None = None
    silent: bool = False
    left: int | None = None
    to_server_bytes: int = 0
    to_client_bytes: int = 0
    sent: bytearray = field(default_factory=bytearray)  # the beginning of what the client sent


class FaultProxy:
    """Listens on a free port of 127.0.0.1, or where `listen` says, and forwards to `host`:`port`."""

    def __init__(self, host: str, port: int, listen: tuple[str, int] = ("127.0.0.1", 0)) -> None:
        self._target = host, port
        self._listen = listen
        self.delay = 0.0
        self.block = False
        self.refuse = False
        self.port = 0
        self.accepted = 0
        self._open: set[Connection] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="fault proxy", daemon=True)
        self._started = threading.Event()

    def __enter__(self) -> FaultProxy:
        self._thread.start()
        self._started.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()

    @property
    def open(self) -> int:
        """Connections that clients have open."""
        return self._do(lambda: len(self._open))

    def silence(self, which: Callable[[Connection], bool] = lambda one: True) -> int:
        """Let nothing more through, either way, on those that are open now; returns how many."""
        return self._each(which, lambda one: setattr(one, "silent", True))

    def reset(self, which: Callable[[Connection], bool] = lambda one: True) -> int:
        """Reset both ends of those that are open now."""
        return self._each(which, _reset)

    def half_open(self, which: Callable[[Connection], bool] = lambda one: True) -> int:
        """Close the server's end of those that are open now; the client is not told."""
        return self._each(which, _half_open)

    def truncate(self, more_bytes: int, which: Callable[[Connection], bool] = lambda one: True) -> int:
        """Cut those that are open now once so many bytes more have reached the client."""
        return self._each(which, lambda one: setattr(one, "left", more_bytes))

    def heal(self) -> None:
        """Treat what comes from now on well."""
        self.delay, self.block, self.refuse = 0.0, False, False

    def _do(self, work: Callable[[], T]) -> T:
        async def call() -> T:
            return work()

        return asyncio.run_coroutine_threadsafe(call(), self._loop).result()

    def _each(self, which: Callable[[Connection], bool], spoil: Callable[[Connection], object]) -> int:
        def work() -> int:
            chosen = [one for one in self._open if which(one)]
            for one in chosen:
                spoil(one)
            return len(chosen)

        return self._do(work)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, *self._listen))
        self.port = server.sockets[0].getsockname()[1]
        self._started.set()
        self._loop.run_forever()
        server.close()
        for connection in self._open:
            _abort((connection.client, connection.server))
        while tasks := asyncio.all_tasks(self._loop):  # one that was just accepted begins only now
            for task in tasks:
                task.cancel()
            self._loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        connection = Connection(writer, silent=self.block)
        self._open.add(connection)
        try:
            if self.refuse:
                _reset(connection)
                return
            with contextlib.suppress(OSError, asyncio.CancelledError):
                back, connection.server = await asyncio.open_connection(*self._target)
                await asyncio.gather(self._pump(reader, connection, False), self._pump(back, connection, True))
        finally:
            self._open.discard(connection)
            _abort((connection.client, connection.server))

    async def _pump(self, reader: asyncio.StreamReader, connection: Connection, to_client: bool) -> None:
        """Forward one way until either end is over; of one that is silent, nothing."""
        while data := await reader.read(CHUNK_BYTES):
            if self.delay:
                await asyncio.sleep(self.delay)
            if connection.silent:
                continue
            writer = connection.client if to_client else connection.server
            assert writer is not None
            if to_client and connection.left is not None:
                data = data[: connection.left]
                connection.left -= len(data)
            connection.to_client_bytes += len(data) if to_client else 0
            connection.to_server_bytes += 0 if to_client else len(data)
            if not to_client and len(connection.sent) < CHUNK_BYTES:
                connection.sent += data
            with contextlib.suppress(OSError):
                writer.write(data)
                await writer.drain()
            if connection.left == 0:
                _abort((connection.client, connection.server))
                return
        if not (connection.silent and to_client):  # what the server does is not told
            _abort((connection.client, connection.server))


def _reset(connection: Connection) -> None:
    for writer in (connection.client, connection.server):
        sock = writer.get_extra_info("socket") if writer is not None else None
        with contextlib.suppress(OSError):  # it is closed already
            if sock is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    _abort((connection.client, connection.server))


def _half_open(connection: Connection) -> None:
    connection.silent = True
    _abort((connection.server,))


def _abort(writers: Iterable[asyncio.StreamWriter | None]) -> None:
    for writer in writers:
        if writer is not None:
            writer.transport.abort()
