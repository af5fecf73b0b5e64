"""Keeps one container of one pod running: start, probe, notice the end, restart."""

from __future__ import annotations

import asyncio
import secrets
import signal
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import aiohttp

from e2e.pods.container import Container, ContainerError, InProcessEngine, LocalProcess
from e2e.pods.options import Options
from e2e.pods.podspec import Launch, Liveness, SpecError
from e2e.pods.programs import SIMULATOR, UnknownImage, image_name
from e2e.pods.status import ContainerState

LOOK_AGAIN_SECONDS = 1.0


def timestamp() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


class ContainerLife:
    """One container from the pod's start to its end. `changed` is called whenever `state` has changed."""

    def __init__(
        self,
        state: ContainerState,
        directory: Path,
        options: Options,
        http: aiohttp.ClientSession,
        prepare: Callable[[], Awaitable[Launch]],
        changed: Callable[[], None],
    ) -> None:
        self.state = state
        self.running: Container | None = None
        self.started = asyncio.Event()  # it has been, once
        self._directory = directory
        self._options = options
        self._http = http
        self._prepare = prepare
        self._changed = changed
        self._ending = False
        self._pid_file = directory / f"{state.name}.pid"

    @property
    def log(self) -> Path:
        return self._directory / f"{self.state.name}.log"

    async def live(self) -> None:
        """Until cancelled, or until `end` has ended it."""
        delay = self._options.restart_seconds
        while not self._ending:
            try:
                launch = await self._prepare()
                container = await self._start(launch)
            except (SpecError, UnknownImage, ContainerError) as error:
                reason = "ErrImagePull" if isinstance(error, UnknownImage) else "CreateContainerConfigError"
                self._wait_with(reason, str(error))
                await asyncio.sleep(LOOK_AGAIN_SECONDS)
                continue
            began = time.monotonic()
            code = await self._until_exit(container, launch)
            if self._ending:
                return
            if time.monotonic() - began >= self._options.restart_reset_seconds:
                delay = self._options.restart_seconds
            self.state.last = self.state.state
            if self.state.restarts:  # the first restart comes at once, the others wait
                message = f"back-off {delay:g}s restarting failed container={self.state.name}"
                self._wait_with("CrashLoopBackOff", message)
            await asyncio.sleep(delay)
            delay = min(delay * 2, self._options.restart_max_seconds)
            self.state.restarts += 1
            with self.log.open("a") as log:
                log.write(f"--- restart {self.state.restarts}, after exit code {code}\n")

    async def end(self, grace_seconds: float) -> None:
        """End it for good; nothing restarts it."""
        self._ending = True
        if container := self.running:
            await container.end(grace_seconds)
            self._note_end(await container.wait())

    def signal(self, number: signal.Signals) -> None:
        if self.running is None:
            raise ContainerError(f"container {self.state.name} is not running ({self.state.state})")
        self.running.signal(number)

    async def _start(self, launch: Launch) -> Container:
        if self._options.in_process and image_name(self.state.image) == SIMULATOR:
            self.running = await InProcessEngine.start(launch, self._options.engine_environment)
        else:
            self.running = await LocalProcess.start(launch, self._directory, self.log)
            self._pid_file.write_text(str(self.running.pid))
        self.state.container_id = f"local://{secrets.token_hex(32)}"
        self.state.state = {"running": {"startedAt": timestamp()}}
        self._note(started=launch.startup is None, ready=launch.startup is None and launch.probe is None)
        return self.running

    async def _until_exit(self, container: Container, launch: Launch) -> int:
        probes = [asyncio.create_task(self._probe(launch))] if launch.probe or launch.startup else []
        if launch.liveness:
            probes.append(asyncio.create_task(self._watch_over(container, launch.liveness)))
        try:
            code = await container.wait()
        finally:
            for probe in probes:
                probe.cancel()
                with suppress(asyncio.CancelledError):
                    await probe
        self._note_end(code)
        return code

    def _note_end(self, code: int) -> None:
        if "running" not in self.state.state:
            return  # it is noted already
        self.running = None
        self._pid_file.unlink(missing_ok=True)
        self.state.ready = self.state.started = False
        self.state.state = {
            "terminated": {
                "exitCode": code,
                "reason": "Completed" if code == 0 else "Error",
                "startedAt": self.state.state["running"]["startedAt"],
                "finishedAt": timestamp(),
                "containerID": self.state.container_id,
            }
        }
        self._changed()

    async def _probe(self, launch: Launch) -> None:
        """Quickly until the first success, then as a kubelet would: some failures in a row make it unready."""
        while True:
            if launch.startup is None or await self._healthy(launch.startup):
                break
            await asyncio.sleep(self._options.starting_probe_seconds)
        if not self.state.started:
            self._note(started=True, ready=launch.probe is None)
        if launch.probe is None:
            return
        failures, ever = 0, False
        while True:
            healthy = await self._healthy(launch.probe)
            ever, failures = ever or healthy, 0 if healthy else failures + 1
            ready = healthy or (self.state.ready and failures < launch.failure_threshold)
            if ready != self.state.ready:
                self.state.ready = ready
                self._changed()
            await asyncio.sleep(self._options.probe_seconds if ever else self._options.starting_probe_seconds)

    async def _watch_over(self, container: Container, liveness: Liveness) -> None:
        """End the container once it has not answered so many times in a row; it is started again as any that ended."""
        failures = 0
        while failures < liveness.failure_threshold:
            await asyncio.sleep(liveness.period_seconds)
            if self.state.started:
                healthy = await self._healthy(liveness.url, liveness.timeout_seconds)
                failures = 0 if healthy else failures + 1
        await container.end(liveness.grace_seconds)

    def _note(self, *, started: bool, ready: bool) -> None:
        self.state.started, self.state.ready = started, ready
        if started:
            self.started.set()
        self._changed()

    async def _healthy(self, url: str, timeout_seconds: float | None = None) -> bool:
        try:
            timeout = aiohttp.ClientTimeout(total=timeout_seconds or self._options.probe_timeout_seconds)
            async with self._http.get(url, timeout=timeout) as response:
                return 200 <= response.status < 400
        except (aiohttp.ClientError, OSError):
            return False

    def _wait_with(self, reason: str, message: str) -> None:
        waiting = {"waiting": {"reason": reason, "message": message}}
        if self.state.state != waiting:
            self.state.state = waiting
            self._changed()
