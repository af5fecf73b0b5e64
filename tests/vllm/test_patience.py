"""Time-outs that count only the time in which we listened, and idle connections that tell of an engine's end."""

from __future__ import annotations

import asyncio
import errno
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from lora_operator.vllm import patience, tripwire
from lora_operator.vllm.answers import Endpoint
from lora_operator.vllm.client import EngineClient
from lora_operator.vllm.errors import EngineUnreachable
from lora_operator.vllm.patience import Patience
from lora_operator.vllm.tripwire import Tripwires


async def test_what_never_comes_is_given_up() -> None:
    with pytest.raises(TimeoutError):
        async with Patience(0.01):
            await asyncio.Event().wait()


async def test_an_answer_that_lay_unread_while_the_loop_was_held_up_is_no_silence() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.sendall(b"answer")
        async with Patience(0.05):
            reading = asyncio.ensure_future(asyncio.get_running_loop().sock_recv(ours, 100))
            time.sleep(0.2)  # noqa: ASYNC251 - it plays a loop that is held up
            assert await reading == b"answer"


async def test_a_loop_that_is_always_late_does_not_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "LATE_SECONDS", -1.0)  # however soon a timer comes, it counts as late
    with pytest.raises(TimeoutError):
        async with Patience(0.01):
            await asyncio.Event().wait()


async def test_being_cancelled_is_no_time_out() -> None:
    async def wait() -> None:
        async with Patience(60.0):
            await asyncio.Event().wait()

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_that_this_process_has_no_file_descriptor_left_says_nothing_about_the_engine(
    client: EngineClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def none_left(*_: object, **__: object) -> socket.socket:
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr(socket, "socket", none_left)
    with pytest.raises(EngineUnreachable) as caught:
        await client.models(Endpoint("127.0.0.1", 9))
    assert caught.value.own_shortage and not caught.value.refused


class Wired:
    def __init__(self, port: int, wires: Tripwires, connections: list[asyncio.StreamWriter]) -> None:
        self.endpoint = Endpoint("127.0.0.1", port)
        self.wires = wires
        self.connections = connections
        self.tripped: list[str] = []
        self.news = asyncio.Event()

    def trip(self, key: str) -> None:
        self.tripped.append(key)
        self.news.set()

    async def connected(self, count: int) -> None:
        async with asyncio.timeout(10):
            while len(self.connections) < count:  # noqa: ASYNC110 - a server of asyncio tells nobody
                await asyncio.sleep(0.005)


@asynccontextmanager
async def wired() -> AsyncIterator[Wired]:
    connections: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(lambda _, writer: connections.append(writer), "127.0.0.1", 0)
    made: Wired
    wires = Tripwires(lambda key: made.trip(key))
    made = Wired(server.sockets[0].getsockname()[1], wires, connections)
    try:
        yield made
    finally:
        wires.cut_all()
        for writer in connections:
            writer.close()
        server.close()


async def test_a_wire_that_breaks_tells_and_is_not_put_up_again_at_once() -> None:
    async with wired() as it:
        await it.wires.stretch("p0", it.endpoint)
        await it.wires.stretch("p0", it.endpoint)
        await it.connected(1)
        it.connections[0].close()
        await it.news.wait()
        assert it.tripped == ["p0"]
        await it.wires.stretch("p0", it.endpoint)  # whoever closes idle connections would be asked without end
        assert "p0" not in it.wires._wires
        it.wires.cut("p0")
        await it.wires.stretch("p0", it.endpoint)
        await it.connected(2)
        assert it.tripped == ["p0"]


async def test_a_wire_that_is_cut_tells_nobody() -> None:
    async with wired() as it:
        await it.wires.stretch("p0", it.endpoint)
        await it.connected(1)
        it.wires.cut("p0")
        for _ in range(3):
            await asyncio.sleep(0)
        assert it.tripped == []


async def test_what_cannot_be_wired_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tripwire, "AGAIN_SECONDS", 0.0)
    wires = Tripwires(lambda key: None)
    await wires.stretch("p0", Endpoint("127.0.0.1", 1))
    await wires.stretch("p0", Endpoint("127.0.0.1", 99999))
    assert not wires._wires
