"""The contract suite against real vLLM. Collected by `python -m e2e.vllm_cpu test` only: it takes minutes.

One server is started for each kind that the cases want, and takes all of them one after another.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence

import aiohttp
import pytest

from e2e.contract.case import Case, Place, Server
from e2e.contract.cases import all_cases
from e2e.contract.flavours import ARGUMENTS, environment_of
from e2e.contract.frontend import Frontend
from e2e.contract.running import target
from e2e.controlplane.processes import free_ports
from e2e.vllm_cpu.server import Server as Process
from e2e.vllm_cpu.server import environment, serve_command

RELEASE = os.environ.get("LORA_OPERATOR_VLLM_RELEASE", "0.32.0")
FRONTEND = Frontend(os.environ.get("LORA_OPERATOR_VLLM_FRONTEND", Frontend.PYTHON))


class Servers:
    """At most one server, of the kind that was asked for last: each takes 2.5 GB."""

    def __init__(self) -> None:
        self._kind: Server | None = None
        self._process: Process | None = None

    def running(self, kind: Server) -> Process:
        """A healthy server of that kind."""
        if self._kind is not kind or self._process is None:
            self.stop()
            self._process = Process(RELEASE, ARGUMENTS[kind], environment_of(kind, FRONTEND))
            self._process.start()
            self._process.wait_healthy()
            self._kind = kind
        return self._process

    def stop(self) -> None:
        """Stop it, if there is one."""
        if self._process is not None:
            self._process.stop()
        self._kind = self._process = None


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """Stopped at the end, whatever happens."""
    servers = Servers()
    yield servers
    servers.stop()


async def _launch(arguments: Sequence[str], extra: Mapping[str, str]) -> tuple[int, str]:
    port = ["--host", "127.0.0.1", "--port", str(free_ports(1)[0])]
    command = serve_command(RELEASE, [*arguments, *port, "--enforce-eager", "--max-model-len", "512"])
    try:
        finished = await asyncio.to_thread(
            subprocess.run,
            command,
            env=environment(RELEASE, extra),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=900,
        )
    except subprocess.TimeoutExpired:
        return 0, "it started"
    return finished.returncode, finished.stdout


@pytest.mark.parametrize("case", all_cases(FRONTEND), ids=str)
async def test_vllm_keeps_the_contract(case: Case, servers: Servers) -> None:
    if case.server is Server.NONE:
        servers.stop()
        async with target("", RELEASE, case.server, frontend=FRONTEND, is_real=True, launch=_launch) as nowhere:
            await case.body(nowhere)
        return
    process = await asyncio.to_thread(servers.running, case.server)

    async def restart() -> str:
        servers.stop()
        return (await asyncio.to_thread(servers.running, case.server)).url

    async with target(
        process.url,
        RELEASE,
        case.server,
        frontend=FRONTEND,
        is_real=True,
        exit_code=process.wait_exited,
        restart=restart,
    ) as real:
        try:
            await case.body(real)
        finally:
            if case.place is not Place.FINAL and case.server is not Server.NOT_UPDATABLE:
                with _what_a_dead_server_says(process):
                    await real.forget_all()


class _what_a_dead_server_says:
    """Turns the loss of the connection into the end of the server's log, which says why."""

    def __init__(self, process: Process) -> None:
        self._process = process

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, aiohttp.ClientConnectionError) and self._process.exit_code() is not None:
            raise AssertionError(f"the server has ended: {self._process.tail()}") from error
