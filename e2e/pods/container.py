"""One start of a container: a local process, or a simulated engine inside this process."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from e2e.controlplane.processes import die_with_parent
from e2e.pods.podspec import Launch

REPOSITORY = Path(__file__).parents[2]
# the runner's own way to the API server is no business of a pod
HIDDEN = ("KUBECONFIG", "USE_EXISTING_CLUSTER")


class ContainerError(Exception):
    """A container cannot be started, or not do what is asked of it; the message says why."""


class Container(Protocol):
    """Something that was started and will end."""

    @property
    def pid(self) -> int | None:
        """The process, or None where there is no process of its own."""

    async def wait(self) -> int:
        """Wait for its end; the exit code, 128 + N for one that signal N ended."""

    async def end(self, grace_seconds: float) -> None:
        """SIGTERM, then after the grace period SIGKILL. It has ended when this returns."""

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; nothing happens if it has ended."""


class LocalProcess:
    """A container as a process of its own. It dies with the runner."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, launch: Launch, directory: Path, log: Path) -> LocalProcess:
        environment = {name: value for name, value in os.environ.items() if name not in HIDDEN}
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, (str(REPOSITORY), environment.get("PYTHONPATH"))))
        environment["PYTHONUNBUFFERED"] = "1"
        environment |= launch.environment
        with log.open("ab") as sink:
            try:
                process = await asyncio.create_subprocess_exec(
                    *launch.command,
                    *launch.arguments,
                    cwd=directory,
                    env=environment,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=sink,
                    stderr=asyncio.subprocess.STDOUT,
                    start_new_session=True,
                    preexec_fn=die_with_parent(),
                )
            except OSError as error:
                raise ContainerError(f"cannot start {launch.command[0]}: {error}") from error
        return cls(process)

    @property
    def pid(self) -> int | None:
        return self._process.pid

    async def wait(self) -> int:
        code = await self._process.wait()
        # as with a container whose first process has ended: nothing of it goes on
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        return code if code >= 0 else 128 - code

    async def end(self, grace_seconds: float) -> None:
        if grace_seconds > 0:
            self.signal(signal.SIGTERM)
            try:
                async with asyncio.timeout(grace_seconds):
                    await self.wait()
                return
            except TimeoutError:
                pass
        self.signal(signal.SIGKILL)
        await self.wait()

    def signal(self, number: signal.Signals) -> None:
        if self._process.returncode is None:
            # the whole session: an engine has processes of its own
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)


class InProcessEngine:
    """A simulated engine that shares this process with others: what makes hundreds of pods possible."""

    def __init__(self, engine: Any) -> None:
        self.engine = engine
        self._end: asyncio.Task[None] | None = None

    @classmethod
    async def start(cls, launch: Launch, defaults: Mapping[str, str]) -> InProcessEngine:
        # imported here because only in-process engines need it, and then it needs all of the simulator
        from e2e.vllm_sim import ArgumentsRefused, serve

        try:
            return cls(await serve(launch.arguments, {**defaults, **launch.environment}, wait=False))
        except ArgumentsRefused as error:
            raise ContainerError(f"vllm-sim: {error}") from error

    @property
    def pid(self) -> int | None:
        return None

    async def wait(self) -> int:
        await self.engine.exited.wait()
        return int(self.engine.exit_code or 0)

    async def end(self, grace_seconds: float) -> None:
        await (self.engine.stop() if grace_seconds > 0 else self.engine.kill())

    def signal(self, number: signal.Signals) -> None:
        if number not in (signal.SIGKILL, signal.SIGTERM):
            raise ContainerError(
                f"{number.name} needs a process of its own; run this pod without in_process, or switch on the "
                "engine's fault `hang`"
            )
        ending = self.engine.kill() if number == signal.SIGKILL else self.engine.stop()
        self._end = asyncio.create_task(ending)
