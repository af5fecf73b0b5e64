"""How an engine dies, and what a restart forgets."""

from __future__ import annotations

import asyncio
import contextlib
import shutil

import aiohttp

from ..by_release import DEATH_IS_NAMED, KILLING_REQUEST
from ..case import Cases, Place
from ..target import BASE, Target

cases = Cases()


@cases(
    "If the files of an evicted adapter are gone, the whole engine dies and the process exits with 0",
    place=Place.FINAL,
    python_only=True,
)
async def a_request_for_an_evicted_adapter_without_files_kills_the_engine(t: Target) -> None:
    folder = t.copy("lora")
    await t.must_load("a", folder)
    for index in range(3):
        await t.must_load(f"filler-{index}", t.fixture("lora-v3"))
    shutil.rmtree(folder)
    bystander = t.stream(BASE, max_tokens=450)
    await anext(bystander)
    reply = await t.complete("a")
    status, kind = KILLING_REQUEST[t.release]
    assert reply.status == status, reply
    assert ("EngineCore encountered an issue" in reply.text) is DEATH_IS_NAMED[t.release]
    assert kind in reply.text
    rest = []
    try:
        rest = [piece async for piece in bystander]
    except aiohttp.ClientError:
        rest = ["<error connection lost>"]
    finished_before = len(rest) > 400
    assert finished_before or rest[-1].startswith("<error"), rest[-3:]
    assert t.exit_code is not None
    async with asyncio.timeout(30):
        assert await t.exit_code() == 0


@cases("Everything is forgotten at a restart", place=Place.FINAL)
async def a_restart_forgets_everything(t: Target) -> None:
    assert t.restart is not None
    with contextlib.suppress(aiohttp.ClientError):  # the engine may have died in the case before
        await t.load("a", t.fixture("lora"))
    t.url = await t.restart()
    assert await t.names() == []
    await t.must_load("a", t.fixture("lora"))
    assert (await t.complete("a")).status == 200
