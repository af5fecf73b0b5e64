"""What only the simulator has: faults, events, the text that tells weights, and its two ways to run."""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from e2e.contract.case import Server
from e2e.contract.flavours import ARGUMENTS
from e2e.contract.running import target
from e2e.contract.target import HERE, Target
from e2e.vllm_sim import ArgumentsRefused, Engine, serve

_UPDATING = {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1"}
_ARGUMENTS = [
    "--model", str(HERE / "model"), "--port", "0", "--sim-startup-seconds", "0", "--sim-load-seconds", "0",
    *ARGUMENTS[Server.USUAL],
]  # fmt: skip


@pytest.fixture
async def engine() -> AsyncIterator[Engine]:
    engine = await serve(_ARGUMENTS, _UPDATING)
    yield engine
    await engine.stop()


@pytest.fixture
async def t(engine: Engine) -> AsyncIterator[Target]:
    async with target(engine.url, "0.32.0", Server.USUAL, is_real=False) as simulated:
        yield simulated


async def _fault(t: Target, **fault: object) -> None:
    assert (await t.post("/sim/faults", fault)).status == 200


def _digest(folder: str) -> str:
    return hashlib.sha256((Path(folder) / "adapter_model.safetensors").read_bytes()).hexdigest()[:12]


async def test_an_answer_tells_which_weights_computed_it(t: Target) -> None:
    await t.must_load("a", t.fixture("lora"))
    text = (await t.complete("a")).json["choices"][0]["text"]
    assert text == f"adapter=a weights={_digest(t.fixture('lora'))} cached=none"


async def test_a_chat_and_a_stream_tell_the_same(t: Target) -> None:
    await t.must_load("a", t.fixture("lora"))
    body = {"model": "a", "messages": [{"role": "user", "content": "hello"}]}
    chat = (await t.post("/v1/chat/completions", body)).json["choices"][0]["message"]["content"]
    stream = "".join([piece async for piece in t.stream("a")])
    assert re.findall(r"weights=\w+", chat) == re.findall(r"weights=\w+", stream) != []


async def test_a_stale_answer_shows_the_old_weights_as_cached() -> None:
    engine = await serve([*_ARGUMENTS, "--release", "0.28.0"], _UPDATING)
    try:
        async with target(engine.url, "0.28.0", Server.USUAL, is_real=False) as t:
            await t.must_load("a", t.fixture("lora"))
            await t.complete("a", "x" * 200)
            await t.unload("a")
            await t.must_load("a", t.fixture("lora-v2"))
            text = (await t.complete("a", "x" * 200)).json["choices"][0]["text"]
            old, new = _digest(t.fixture("lora")), _digest(t.fixture("lora-v2"))
            assert text == f"adapter=a weights={new} cached={old}"
    finally:
        await engine.stop()


async def test_a_hung_engine_answers_when_the_fault_is_cleared(t: Target) -> None:
    await _fault(t, kind="hang")
    waiting = [asyncio.create_task(t.get("/health")), asyncio.create_task(t.load("a", t.fixture("lora")))]
    while (await t.get("/sim/faults")).json["faults"][0]["hits"] < 2:  # noqa: ASYNC110  nothing else to wait for
        await asyncio.sleep(0.001)
    assert not any(task.done() for task in waiting)
    await t.request("DELETE", "/sim/faults")
    assert [reply.status for reply in await asyncio.gather(*waiting)] == [200, 200]
    assert await t.names() == ["a"]


async def test_one_endpoint_can_hang_alone(t: Target) -> None:
    await _fault(t, kind="hang", endpoint="load", times=1)
    load = asyncio.create_task(t.load("a", t.fixture("lora")))
    assert await t.names() == []
    await t.request("DELETE", "/sim/faults")
    assert (await load).status == 200


async def test_a_status_is_answered_so_many_times(t: Target) -> None:
    await _fault(t, kind="status", endpoint="load", status=503, times=2)
    replies = [await t.load("a", t.fixture("lora")) for _ in range(3)]
    assert [reply.status for reply in replies] == [503, 503, 200]


async def test_a_fault_can_be_for_one_adapter(t: Target) -> None:
    await _fault(t, kind="status", endpoint="load", name="a")
    assert (await t.load("b", t.fixture("lora"))).status == 200
    assert (await t.load("a", t.fixture("lora"))).status == 500


async def test_a_late_load_has_happened_before_it_is_answered(t: Target) -> None:
    await _fault(t, kind="late", endpoint="load")
    load = asyncio.create_task(t.load("a", t.fixture("lora")))
    while await t.names() != ["a"]:  # noqa: ASYNC110  the engine has no event to wait for
        await asyncio.sleep(0.001)
    assert not load.done()
    await t.request("DELETE", "/sim/faults")
    assert (await load).status == 200


async def test_a_slow_answer_needs_its_seconds(t: Target) -> None:
    await _fault(t, kind="slow", endpoint="models", seconds=0.01)
    assert await t.names() == []


@pytest.mark.parametrize("after", [False, True])
async def test_a_dropped_connection_has_done_its_work_or_not(t: Target, after: bool) -> None:
    await _fault(t, kind="drop", endpoint="load", times=1, after=after)
    with pytest.raises(aiohttp.ClientError):
        await t.load("a", t.fixture("lora"))
    assert await t.names() == (["a"] if after else [])


async def test_a_forgotten_unload_leaves_the_name(t: Target) -> None:
    await t.must_load("a", t.fixture("lora"))
    await _fault(t, kind="forget_unload", times=1)
    assert (await t.unload("a")).status == 200
    assert await t.names() == ["a"]
    assert (await t.unload("a")).status == 200
    assert await t.names() == []


async def test_a_crash_at_load_ends_the_engine(engine: Engine, t: Target) -> None:
    await _fault(t, kind="crash", exit_code=3)
    with pytest.raises(aiohttp.ClientError):
        await t.load("a", t.fixture("lora"))
    await engine.exited.wait()
    assert engine.exit_code == 3


@pytest.mark.parametrize(
    "fault", [{"kind": "x"}, {"kind": "hang", "endpoint": "x"}, {"kind": "slow"}, {"kind": "hang", "much": 1}]
)
async def test_a_fault_that_does_not_exist_is_refused(t: Target, fault: dict[str, object]) -> None:
    reply = await t.post("/sim/faults", fault)
    assert reply.status == 400
    assert reply.json["error"]


async def test_events_tell_what_happened_when(t: Target) -> None:
    await t.must_load("a", t.fixture("lora"))
    await t.load("b", t.fixture("truncated"))
    await t.unload("a")
    await t.names()
    seen = (await t.get("/sim/events")).json
    assert [event["event"] for event in seen["events"]] == ["started", "healthy", "load", "load", "unload"]
    assert [event.get("status") for event in seen["events"]][2:] == [200, 500, 200]
    assert [event["at"] for event in seen["events"]] == sorted(event["at"] for event in seen["events"])
    assert seen["calls"] == {"load": 2, "unload": 1, "models": 1}


async def test_a_killed_engine_cuts_its_connections(engine: Engine, t: Target) -> None:
    engine.faults.add("hang", "health")
    waiting = asyncio.create_task(t.get("/health"))
    assert await t.names() == []
    await engine.kill()
    with pytest.raises(aiohttp.ClientError):
        await waiting
    assert engine.exit_code == 137
    with pytest.raises(aiohttp.ClientConnectorError):
        await t.names()


async def test_an_engine_that_starts_refuses_connections_until_it_is_healthy() -> None:
    arguments = [*_ARGUMENTS, "--sim-startup-seconds", "60"]
    engine = await serve(arguments, _UPDATING, wait=False)
    assert not engine.ready.is_set()
    await engine.stop()
    assert engine.exit_code == 0
    with pytest.raises(RuntimeError, match="before it was ready"):
        await engine.wait_ready()


async def test_a_port_that_is_taken_is_told(engine: Engine) -> None:
    with pytest.raises(RuntimeError, match="before it was ready"):
        await serve([*_ARGUMENTS, "--port", str(engine.port)], _UPDATING)


async def test_many_engines_run_in_one_process() -> None:
    engines = await asyncio.gather(*(serve(_ARGUMENTS, _UPDATING) for _ in range(100)))
    try:
        async with aiohttp.ClientSession() as session:

            async def load(engine: Engine) -> int:
                body = {"lora_name": "a", "lora_path": str(HERE / "adapters" / "lora")}
                async with session.post(f"{engine.url}/v1/load_lora_adapter", json=body) as response:
                    return response.status

            assert set(await asyncio.gather(*map(load, engines))) == {200}
        assert all(engine.adapters == ["a"] for engine in engines)
    finally:
        await asyncio.gather(*(engine.stop() for engine in engines))


async def test_a_model_without_a_folder_has_no_shapes_to_check_against() -> None:
    engine = await serve(["--model", "some/model", "--enable-lora", "--port", "0"], _UPDATING)
    try:
        async with target(engine.url, "0.32.0", Server.USUAL, is_real=False) as t:
            assert (await t.load("a", t.fixture("too-large-out"))).status == 200
            assert (await t.load("b", t.fixture("lora-r32"))).status == 500
    finally:
        await engine.stop()


async def test_static_adapters_are_there_from_the_start() -> None:
    static = ["--lora-modules", f"one={HERE}/adapters/lora", f'{{"name": "two", "path": "{HERE}/adapters/lora-v2"}}']
    engine = await serve([*_ARGUMENTS, *static], {})
    assert engine.adapters == ["one", "two"]
    await engine.stop()


@pytest.mark.parametrize(
    "arguments",
    [["--max-lora-rank", "24"], ["--max-loras", "9"], ["--release", "latest"], ["--lora-modules", "x"]],
)
async def test_a_command_line_that_vllm_refuses_is_refused(arguments: list[str]) -> None:
    with pytest.raises(ArgumentsRefused):
        await serve([*_ARGUMENTS, *arguments], {})


@pytest.mark.parametrize("style", [["serve", "base"], ["base"], ["--model=base"]])
async def test_the_model_is_read_in_every_way_that_vllm_takes_it(style: list[str]) -> None:
    engine = await serve([*style, "--max_model_len=99", "--port", "0", "--gpu-memory-utilization", "0.9"], {})
    assert engine.settings.model == "base"
    assert engine.settings.max_model_len == 99
    assert engine.settings.ignored == ("--gpu-memory-utilization", "0.9")
    await engine.stop()


async def test_as_a_process_it_says_where_it_answers_and_ends_on_a_signal() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "e2e.vllm_sim", *_ARGUMENTS,
        stdout=asyncio.subprocess.PIPE, env={**os.environ, **_UPDATING}, cwd=HERE.parents[1],
    )  # fmt: skip
    assert process.stdout is not None
    line = (await process.stdout.readline()).decode()
    url = line.split()[-1]
    async with target(url, "0.32.0", Server.USUAL, is_real=False) as t:
        await t.must_load("a", t.fixture("lora"))
    process.send_signal(signal.SIGTERM)
    assert await process.wait() == 0
