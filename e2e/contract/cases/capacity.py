"""Residency and slots: what happens beyond max_cpu_loras and max_loras."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

from ..case import Cases
from ..frontend import Frontend
from ..target import BASE, Target

cases = Cases()
_WEIGHTS = "adapter_model.safetensors"


def _replace_weights(folder: Path, other: str, t: Target) -> None:
    (folder / _WEIGHTS).write_bytes((Path(t.fixture(other)) / _WEIGHTS).read_bytes())


async def _evict_others(t: Target) -> None:
    """Load as many as host memory holds, so that whatever was there before is not any more."""
    for index in range(3):
        await t.must_load(f"filler-{index}", t.fixture("lora-v3"))


@cases("Loading more than max_cpu_loras is never an error: names stay listed", python_only=True)
async def loading_more_than_fits_is_no_error(t: Target) -> None:
    names = [f"a{index}" for index in range(5)]
    for name in names:
        await t.must_load(name, t.fixture("lora"))
    assert await t.names() == names


@cases("A request for an evicted adapter reads its files again: changed in place, the new weights are served silently")
async def an_evicted_adapter_is_read_again_with_whatever_is_there(t: Target) -> None:
    folder = t.copy("lora")
    await t.must_load("a", folder)
    old = await t.answer("a")
    await t.must_load("new", t.fixture("lora-v2"))
    new = await t.answer("new")
    _replace_weights(folder, "lora-v2", t)
    await _evict_others(t)
    assert await t.answer("a") == new != old


@cases("A resident adapter is not read again: files changed in place are not noticed")
async def a_resident_adapter_is_not_read_again(t: Target) -> None:
    folder = t.copy("lora")
    await t.must_load("a", folder)
    old = await t.answer("a")
    _replace_weights(folder, "lora-v2", t)
    assert await t.answer("a") == old


@cases("max_cpu_loras are kept in host memory, LRU: a request renews")
async def a_request_renews_residency(t: Target) -> None:
    folder = t.copy("lora")
    await t.must_load("a", folder)
    old = await t.answer("a")
    await t.must_load("b", t.fixture("lora-v3"))
    await t.must_load("c", t.fixture("lora-v3"))
    assert await t.answer("a") == old
    _replace_weights(folder, "lora-v2", t)
    await t.must_load("d", t.fixture("lora-v3"))  # pushes b out, not a
    assert await t.answer("a") == old


@cases("More adapters than slots in turn: every request is answered")
async def adapters_take_turns_in_the_slots(t: Target) -> None:
    for name in ("lora", "lora-v2", "lora-v3"):
        await t.must_load(name, t.fixture(name))
    first = [await t.answer(name) for name in ("lora", "lora-v2", "lora-v3")]
    assert len(set(first)) == 3
    again = await asyncio.gather(*(t.answer(name) for name in ("lora", "lora-v2", "lora-v3")))
    assert again == first


async def _drain(pieces: AsyncIterator[str]) -> None:
    async for _ in pieces:
        pass


@cases("With all slots busy, a further adapter's request waits, while new requests of the running ones get in")
async def a_request_beyond_the_slots_waits_without_fairness(t: Target) -> None:
    for name in ("a", "b", "c"):
        await t.must_load(name, t.fixture("lora"))
    streams = [t.stream(name, max_tokens=450) for name in ("a", "b")]
    for stream in streams:
        await anext(stream)
    running = [asyncio.create_task(_drain(stream)) for stream in streams]
    late = asyncio.create_task(t.complete("c", max_tokens=1))
    overtaking = await t.complete("a", max_tokens=1)
    assert overtaking.status == 200
    assert not any(task.done() for task in [*running, late])
    base = await t.complete(BASE, max_tokens=1)
    assert base.status == 200
    done, _ = await asyncio.wait([*running, late], return_when=asyncio.FIRST_COMPLETED)
    assert done & set(running)
    assert (await late).status == 200
    await asyncio.gather(*running)


def _blocked(t: Target) -> tuple[Path, bytes]:
    """An adapter whose config is a pipe: whoever reads it waits until somebody writes."""
    folder = t.copy("lora")
    config = folder / "adapter_config.json"
    content = config.read_bytes()
    config.unlink()
    os.mkfifo(config)
    return folder, content


def _open_for_writing(folder: Path) -> int:
    """Returns when the reader has come."""
    return os.open(folder / "adapter_config.json", os.O_WRONLY)


def _finish(pipe: int, content: bytes) -> None:
    os.write(pipe, content)
    os.close(pipe)


@cases("while an adapter is being read, generation stands still; /health, /metrics and /v1/models answer")
async def while_an_adapter_is_read_generation_stands_still(t: Target) -> None:
    folder, content = _blocked(t)
    load = asyncio.create_task(t.load("a", folder))
    pipe = await asyncio.to_thread(_open_for_writing, folder)
    request = asyncio.create_task(t.complete(BASE))
    for path in ("/health", "/metrics", "/v1/models"):
        assert (await t.get(path)).status == 200
    done, _ = await asyncio.wait([request, load], timeout=0.3)
    assert not done
    _finish(pipe, content)
    assert (await load).status == 200
    assert (await request).status == 200


@cases("A load whose client gave up still happens; the Rust frontend does not list it then")
async def a_load_that_its_client_gave_up_on_still_happens(t: Target) -> None:
    folder, content = _blocked(t)
    load = asyncio.create_task(t.load("a", folder))
    pipe = await asyncio.to_thread(_open_for_writing, folder)
    load.cancel()
    await asyncio.gather(load, return_exceptions=True)
    _finish(pipe, content)
    if t.frontend is Frontend.RUST:
        assert (await t.load("b", t.fixture("lora"))).status == 200  # the engine takes loads in turn
        assert await t.names() == ["b"]
        return
    while await t.names() != ["a"]:  # noqa: ASYNC110  the engine has no event to wait for
        await asyncio.sleep(0.01)
    assert (await t.complete("a")).status == 200
