"""The contract suite against the simulator, for each release that answers differently."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

import pytest

from e2e.contract.case import Case, Server
from e2e.contract.cases import all_cases
from e2e.contract.flavours import ARGUMENTS, environment_of
from e2e.contract.frontend import Frontend
from e2e.contract.running import target
from e2e.contract.target import HERE, Target
from e2e.vllm_sim import ArgumentsRefused, Engine, serve

WITH_RUST = "0.33.0"  # in some releases vLLM has two frontends
RELEASES = ("0.8.5", "0.10.2", "0.12.0", "0.16.0", "0.20.2", "0.28.0", "0.30.0", "0.32.0", "0.33.0")
NEWEST = RELEASES[-1]
CASES = [
    pytest.param(release, case, frontend, id=f"{release}-{case}" if frontend is Frontend.PYTHON else f"rust-{case}")
    for release, frontend in [*((release, Frontend.PYTHON) for release in RELEASES), (WITH_RUST, Frontend.RUST)]
    for case in all_cases(frontend)
    if not case.real_only and (case.changes or release == NEWEST)
]
_MODEL = ["--model", str(HERE / "model"), "--port", "0"]
_FAST = ["--sim-startup-seconds", "0", "--sim-load-seconds", "0.001", "--sim-seconds-per-token", "0.0005"]


async def _start(release: str, server: Server, frontend: Frontend) -> Engine:
    arguments = [*_MODEL, *_FAST, "--release", release, *ARGUMENTS[server]]
    return await serve(arguments, environment_of(server, frontend))


@asynccontextmanager
async def _simulated(release: str, server: Server, frontend: Frontend) -> AsyncIterator[Target]:
    engines = [await _start(release, server, frontend)]

    async def exit_code() -> int:
        await engines[-1].exited.wait()
        code = engines[-1].exit_code
        assert code is not None
        return code

    async def restart() -> str:
        await engines[-1].stop()
        engines.append(await _start(release, server, frontend))
        return engines[-1].url

    try:
        async with target(
            engines[0].url, release, server, frontend=frontend, is_real=False, exit_code=exit_code, restart=restart
        ) as simulated:
            yield simulated
    finally:
        await asyncio.gather(*(engine.stop() for engine in engines))


async def _launch(release: str, arguments: Sequence[str], environment: Mapping[str, str]) -> tuple[int, str]:
    try:
        engine = await serve([*_MODEL, *_FAST, "--release", release, *arguments], environment)
    except ArgumentsRefused as exc:
        return 2, str(exc)
    await engine.stop()
    return 0, "started"


@pytest.mark.parametrize(("release", "case", "frontend"), CASES)
async def test_the_simulator_keeps_the_contract(release: str, case: Case, frontend: Frontend) -> None:
    if case.server is Server.NONE:

        async def launch(arguments: Sequence[str], environment: Mapping[str, str]) -> tuple[int, str]:
            return await _launch(release, arguments, environment)

        async with target("", release, case.server, is_real=False, launch=launch) as nowhere:
            await case.body(nowhere)
        return
    async with _simulated(release, case.server, frontend) as simulated:
        await case.body(simulated)
