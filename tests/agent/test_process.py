"""The agent as it is deployed: a process that is killed, restarted, told to stop, and wrongly started."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import psutil
import pytest

from e2e.controlplane.processes import free_ports
from e2e.stores.proxy import Fault
from lora_operator.agent import app, upkeep
from lora_operator.artifacts import WEIGHTS_FILE
from lora_operator.fetch.limits import Limits
from lora_operator.fetch.pace import Bandwidth
from tests.agent.running import POD, TOKEN, Agent, an_agent, place
from tests.fetch.ordered import SECRET, WEIGHTS_URL, Case, adapter_files, is_whole

BLOCK = Limits().block_bytes  # what is kept of a fetch is a multiple of it


async def started(folder: Path, *arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "lora_operator.cli.main", "agent", "--root", str(folder / "disk"), "--token-file",
        str(folder / "token"), "--pod", POD, "--host", "127.0.0.1", *arguments,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip


@asynccontextmanager
async def a_process(folder: Path, said: list[str]) -> AsyncIterator[tuple[Agent, asyncio.subprocess.Process]]:
    """`lora-operator agent`; what it logs is in `said` when it has ended."""
    (folder / "disk").mkdir(exist_ok=True)
    (folder / "token").write_text(TOKEN)
    (port,) = free_ports(1)
    process = await started(folder, "--port", str(port))
    assert process.stdout is not None
    said.append((await process.stdout.readline()).decode())  # that it serves
    assert "agent of" in said[-1], said[-1] + (await process.stdout.read()).decode()
    try:
        async with aiohttp.ClientSession() as session:
            yield Agent(session, port, folder / "disk"), process
    finally:
        if process.returncode is None:
            process.kill()
        said.append((await process.communicate())[0].decode())


async def test_a_fetch_that_kill_9_ended_is_taken_up_where_it_was(tmp_path: Path, case: Case) -> None:
    case.files = adapter_files(tmp_path / "large", rank=4096)
    case.store.files = {WEIGHTS_URL: case.files[WEIGHTS_FILE]}
    said: list[str] = []
    case.store.always = Fault(stall_after=2 * BLOCK + 1)
    async with a_process(tmp_path, said) as (agent, process):
        await agent.fetch(case.order, wait=0)
        while (await agent.ask("GET", place(case.order))).body["doneBytes"] < 2 * BLOCK:
            pass
        process.send_signal(signal.SIGKILL)
        await process.wait()
    case.store.always, case.store.sent_bytes = Fault(), 0
    async with a_process(tmp_path, said) as (agent, process):
        assert not agent.folder(case.order).exists()
        assert (await agent.fetch(case.order)).body["state"] == "Present"
        assert is_whole(agent.folder(case.order), case.files)
        assert case.store.sent_bytes == len(case.files[WEIGHTS_FILE]) - 2 * BLOCK
        assert TOKEN not in " ".join(psutil.Process(process.pid).cmdline())
    assert SECRET not in "".join(said) and TOKEN not in "".join(said)


async def test_one_that_is_told_to_stop_ends_in_order_and_goes_on_later(tmp_path: Path, case: Case) -> None:
    said: list[str] = []
    case.store.bandwidth = Bandwidth(20_000)
    async with a_process(tmp_path, said) as (agent, process):
        await agent.fetch(case.order, wait=0)
        await case.store.asked.wait()
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
    assert "Traceback" not in "".join(said), "".join(said)
    case.store.bandwidth = Bandwidth(None)
    async with a_process(tmp_path, said) as (agent, _):
        assert (await agent.fetch(case.order)).body["state"] == "Present"


async def test_one_without_its_disk_or_token_says_so_goes_on_and_takes_them_when_they_are_there(
    tmp_path: Path, case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(app, "OPEN_SECONDS", 0.01)
    disk = tmp_path / "disk"
    async with an_agent(tmp_path, root=disk, token="short") as agent:
        wrong = ""
        while "mount the volume" not in wrong:
            wrong = (await agent.ask("GET", "/healthz", token=None)).text
        assert wrong.startswith("ok; ") and str(disk) in wrong and "has 5 characters" in wrong
        (tmp_path / "token").write_text(TOKEN)
        disk.mkdir()
        while (await agent.ask("GET", "/healthz", token=None)).text != "ok\n":
            pass
        assert (await agent.fetch(case.order)).body["state"] == "Present"


async def test_one_whose_port_is_taken_says_so_in_a_line(tmp_path: Path) -> None:
    said: list[str] = []
    async with a_process(tmp_path, said) as (agent, _):
        process = await started(tmp_path, "--port", str(agent.port))
        why = (await process.communicate())[0].decode()
    assert process.returncode == 1 and "choose another port" in why and "Traceback" not in why


def test_an_agent_needs_no_cloud_sdk_and_no_kubernetes() -> None:
    heavy = {"boto3", "botocore", "azure", "huggingface_hub", "httpx2", "kubernetes"}
    code = "import sys, lora_operator.agent.app; print(*sorted({name.split('.')[0] for name in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "aiohttp" in loaded and not heavy & set(loaded)
