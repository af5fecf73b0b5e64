"""What a pick costs behind a real Envoy, with prompts counting and without: time added, requests per core, memory."""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench.envoy.traffic import an_engine
from bench.figures import Figure, percentile
from bench.router.clients import load
from e2e.envoy import Envoy
from lora_operator.router.prefix_index import MOST_BLOCKS

ADAPTERS, PODS, COPIES = 1_000, 100, 2
LARGE = (10_000, 1_000)
RATES = (100, 1_000)
CONNECTIONS = 8
SYSTEM = "You answer questions about the orders of a shop from its tables alone, in one sentence. " * 12


@dataclass(frozen=True, slots=True)
class Extent:
    """`requests`: that never pause; `seconds`: at each rate; `filling`: chats before memory is read."""

    requests: int = 6_000
    seconds: float = 10.0
    filling: int = 20_000


def chat_request(adapter: str, chance: random.Random) -> bytes:
    """A chat of some turns, of about 2.5 kB."""
    said = [{"role": "user", "content": f"Question {chance.random()}: how many orders came in? " * 4} for _ in range(5)]
    messages = [{"role": "system", "content": SYSTEM}, *said]
    body = json.dumps({"model": adapter, "messages": messages, "max_tokens": 16}).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nHost: gateway\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


@asynccontextmanager
async def a_picker(adapters: int, pods: int, engine_port: int, blocks: int) -> AsyncIterator[tuple[Process, int]]:
    """With its port."""
    words = ("-m", "bench.envoy.child", *map(str, (adapters, pods, COPIES, engine_port, blocks)))
    child = await asyncio.create_subprocess_exec(sys.executable, *words, stdin=PIPE, stdout=PIPE)
    assert child.stdin is not None and child.stdout is not None
    yield child, json.loads(await child.stdout.readline())["port"]
    child.stdin.close()
    await child.wait()


async def measure(directory: Path, extent: Extent) -> list[Figure]:
    figures: list[Figure] = []
    chance = random.Random(3)
    requests = [chat_request(f"adapter-{chance.randrange(ADAPTERS):05}", chance) for _ in range(extent.requests)]
    async with an_engine() as engine_port:
        with Envoy(0, directory / "fixed", fixed=f"127.0.0.1:{engine_port}") as fixed:
            for label, blocks in (("prompts count", MOST_BLOCKS), ("prompts do not count", 0)):
                async with a_picker(ADAPTERS, PODS, engine_port, blocks) as (child, port):
                    with Envoy(port, directory / label.replace(" ", "-")) as picked:
                        figures += await _costs(label, child.pid, picked.port, fixed.port, requests, extent)
        for label, blocks in (("prompts count", MOST_BLOCKS), ("prompts do not count", 0)):
            async with a_picker(*LARGE, engine_port, blocks) as (child, port):
                with Envoy(port, directory / f"large-{blocks}") as picked:
                    names = (f"adapter-{chance.randrange(LARGE[0]):05}" for _ in range(extent.filling))
                    await load(child.pid, picked.port, [chat_request(name, chance) for name in names], CONNECTIONS)
                megabytes = psutil.Process(child.pid).memory_info().rss / 1e6
            size = f"{LARGE[1]} pods x {LARGE[0]} adapters"
            note = f"after {extent.filling} chats"
            figures.append(Figure(f"memory, {size}, {label}", (megabytes,), "MB", "", note=note))
    return figures


async def _costs(label: str, pid: int, picked: int, fixed: int, requests: list[bytes], extent: Extent) -> list[Figure]:
    many = await load(pid, picked, requests, CONNECTIONS)
    figures = [
        Figure(f"requests per core of the picker, {label}", (many.per_core,), "/s", ">= 3000", "",
               many.per_core >= 3000, f"of {len(requests[0])} bytes, {CONNECTIONS} connections that never pause")
    ]  # fmt: skip
    for rate in RATES:
        sent = [requests[number % len(requests)] for number in range(int(rate * extent.seconds))]
        with_it, without = await _paced(picked, sent, rate), await _paced(fixed, sent, rate)
        p50 = percentile(with_it, 50) - percentile(without, 50)
        p99 = percentile(with_it, 99) - percentile(without, 99)
        figures += [
            Figure(f"added at {rate}/s, p50, {label}", (p50 * 1000,), "ms", "<= 1", "", p50 <= 0.001),
            Figure(f"added at {rate}/s, p99, {label}", (p99 * 1000,), "ms", ""),
        ]
    return figures


async def _paced(port: int, requests: list[bytes], rate: float) -> list[float]:
    """Seconds of each, from when it was due: one that could not be sent in time has waited."""
    free: asyncio.Queue[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = asyncio.Queue()
    for _ in range(64):
        free.put_nowait(await asyncio.open_connection("127.0.0.1", port))
    seconds: list[float] = []

    async def ask(request: bytes, due: float) -> None:
        reader, writer = await free.get()
        writer.write(request)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        assert head.startswith(b"http/1.1 200"), head
        await reader.readexactly(int(head.split(b"content-length: ")[1].split(b"\r")[0]))
        seconds.append(time.perf_counter() - due)
        free.put_nowait((reader, writer))

    started, running = time.perf_counter(), set[asyncio.Task[None]]()
    for number, request in enumerate(requests):
        due = started + number / rate
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        task = asyncio.create_task(ask(request, due))
        running.add(task)
        task.add_done_callback(running.discard)
    await asyncio.gather(*running)
    while not free.empty():
        free.get_nowait()[1].close()
    return seconds
