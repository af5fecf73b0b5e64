"""One engine's life: start, listen, and the four ways to end (stopped, killed, crashed, died)."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress

from aiohttp import web

from .application import Application
from .arguments import Settings, parse_arguments
from .base_model import read_base_model
from .core import EngineCore
from .faults import Faults
from .journal import Journal
from .registry import LoadRequest, Refused

KILLED = 137
KEEPALIVE_SECONDS = 5.0  # uvicorn's: a connection that was idle for so long is closed
_DEATH_SECONDS = 0.5  # between the engine's death and the process's


class Engine:
    """A running engine. `exited` is set when it has ended, then `exit_code` is not None; `ready` when it answers."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.journal = Journal()
        self.faults = Faults()
        self.ready = asyncio.Event()
        self.exited = asyncio.Event()
        self.exit_code: int | None = None
        self.port = settings.port
        base = read_base_model(settings.model_config) if settings.model_config else None
        self._core = EngineCore(settings, base, self.journal)
        self._application = Application(self._core, self.journal, self.faults, self._crash)
        self._runner = web.AppRunner(
            self._application.web, access_log=None, shutdown_timeout=0.5, keepalive_timeout=KEEPALIVE_SECONDS
        )
        self._listener: asyncio.Server | None = None
        self._ending: asyncio.Task[None] | None = None
        self._life = asyncio.create_task(self._live())

    @property
    def url(self) -> str:
        """Where it answers; the port is only right once it is ready where it was given as 0."""
        return f"http://{self.settings.host}:{self.port}"

    @property
    def adapters(self) -> list[str]:
        """The names it lists now."""
        return [a.name for a in self._application.registry.adapters]

    @property
    def resident(self) -> list[str]:
        """Digests of the weights in host memory, the least recently used first."""
        return [weights.digest for weights in self._core.resident.values()]

    async def stop(self) -> None:
        """End it as SIGTERM does: answers that are under way get half a second."""
        await self._end(0)

    async def kill(self) -> None:
        """End it as SIGKILL does: connections are cut."""
        self._cut_connections()
        await self._end(KILLED)

    async def wait_ready(self) -> None:
        """Wait until it answers. Raises RuntimeError where it ends instead."""
        waits = [asyncio.create_task(event.wait()) for event in (self.ready, self.exited)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        if not self.ready.is_set():
            raise RuntimeError(
                f"vllm-sim on {self.url} ended with {self.exit_code} before it was ready"
            ) from self._error

    async def _live(self) -> None:
        self.journal.note("started", release=self.settings.release.name)
        self._error: BaseException | None = None
        try:
            await asyncio.sleep(self.settings.startup_seconds)
            for name, path in self.settings.static_adapters:
                await self._application.registry.load(LoadRequest(name, path))
            await self._runner.setup()
            handler = self._runner.server
            assert handler is not None  # setup has made it
            self._listener = await asyncio.get_running_loop().create_server(
                handler, self.settings.host, self.settings.port, reuse_address=True, backlog=128
            )
        except (OSError, Refused) as exc:
            self._error = exc
            self.journal.note("failed to start", error=str(exc))
            self._finish(1)
            return
        self.port = self._listener.sockets[0].getsockname()[1]
        self.journal.note("healthy", url=self.url)
        self.ready.set()
        await self._core.died.wait()
        await asyncio.sleep(_DEATH_SECONDS)
        self._crash(0)

    def _crash(self, exit_code: int) -> None:
        self._cut_connections()
        if self._ending is None:
            self._ending = asyncio.create_task(self._close(exit_code))

    def _cut_connections(self) -> None:
        if self._runner.server is None:
            return
        for connection in self._runner.server.connections:
            if connection.transport is not None:
                connection.transport.abort()

    async def _end(self, exit_code: int) -> None:
        if self._ending is None:
            self._ending = asyncio.create_task(self._close(exit_code))
        await self._ending

    async def _close(self, exit_code: int) -> None:
        if asyncio.current_task() is not self._life:
            self._life.cancel()
            with suppress(asyncio.CancelledError):
                await self._life
        self._core.die()
        self.faults.clear()
        await self._stop_listening()
        if exit_code:
            self._cut_connections()
        await self._runner.cleanup()
        self._finish(exit_code)

    async def _stop_listening(self) -> None:
        """asyncio leaks a connection that it has accepted when its listener is closed: let it take up those first."""
        if self._listener is None:
            return
        for listening in self._listener.sockets:
            asyncio.get_running_loop().remove_reader(listening.fileno())
        for _ in range(3):
            await asyncio.sleep(0)
        self._listener.close()

    def _finish(self, exit_code: int) -> None:
        if self.exit_code is None:
            self.exit_code = exit_code
            self.journal.note("exited", code=exit_code)
        self.exited.set()


async def serve(args: Sequence[str], env: Mapping[str, str] | None = None, *, wait: bool = True) -> Engine:
    """Start an engine in this process with vLLM's arguments.

    `env` replaces the environment (None: this process's). With `wait` it answers when this returns; otherwise it
    starts in the background, as a container does. Raises ArgumentsRefused where vLLM would not start, RuntimeError
    where it ends before it is ready (a port that is taken, a `--lora-modules` entry that cannot be loaded).
    """
    engine = Engine(parse_arguments(args, os.environ if env is None else env))
    if wait:
        await engine.wait_ready()
    return engine
