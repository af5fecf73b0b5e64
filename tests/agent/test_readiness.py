"""What opens a pod to traffic is the pod's own: by the operator's word, by itself in the end, and for good."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from e2e.controlplane.processes import free_ports
from lora_operator.agent import readiness as module
from lora_operator.agent.readiness import LATEST_SECONDS, Readiness
from lora_operator.agent_api.marker import FOLDER, VERY_OLD_SECONDS, Marker
from lora_operator.agent_api.wire import ReadinessBody
from tests.agent.running import TOKEN, an_agent

HERE = "127.0.0.1"


class Door:
    """A Readiness with a clock that stands still, and an engine that listens or not."""

    def __init__(self, root: Path, port: int, uid: str = "uid-1") -> None:
        self.now = 1000.0
        self.port = port
        self.root = root
        self.uid = uid
        self._server: asyncio.Server | None = None
        self.readiness = self._new()

    def _new(self) -> Readiness:
        return Readiness(
            Marker(self.root, self.uid),
            engine_port=self.port,
            ready_seconds=60.0,
            silence_seconds=30.0,
            clock=lambda: self.now,
        )

    async def restart_agent(self) -> None:
        self.readiness = self._new()
        await self.readiness.load()

    async def start_engine(self) -> None:
        async def talk(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.close()

        self._server = await asyncio.start_server(talk, HERE, self.port)

    async def stop_engine(self) -> None:
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
            self._server = None

    async def say(self, is_open: bool, container: str = "engine-1", message: str = "waits for sql") -> None:
        await self.readiness.hear(ReadinessBody(container=container, open=is_open, message=message), HERE)

    async def lacks(self, after: float = 0.0) -> str:
        self.now += after
        return await self.readiness.lacks(HERE)


@pytest.fixture
async def door(tmp_path: Path) -> AsyncIterator[Door]:
    async with a_door(tmp_path) as made:
        yield made


@asynccontextmanager
async def a_door(root: Path, uid: str = "uid-1") -> AsyncIterator[Door]:
    (port,) = free_ports(1)
    made = Door(root, port, uid)
    await made.readiness.load()
    yield made
    await made.stop_engine()


async def test_it_waits_for_the_operators_word_and_opens_by_it(door: Door) -> None:
    await door.start_engine()
    assert "has said nothing" in await door.lacks()
    await door.say(False)
    assert await door.lacks(after=1) == "waits for sql"
    await door.say(True)
    assert await door.lacks() == ""


async def test_it_opens_after_the_deadline_though_the_operator_goes_on_saying_no(door: Door) -> None:
    await door.start_engine()
    assert await door.lacks()
    for _ in range(5):
        await door.say(False)
        assert await door.lacks(after=11)
    await door.say(False)
    assert await door.lacks(after=11) == ""


async def test_it_opens_sooner_where_nobody_says_anything_any_more(door: Door) -> None:
    await door.start_engine()
    assert await door.lacks()
    await door.say(False)
    assert await door.lacks(after=29)
    assert await door.lacks(after=2) == ""


async def test_an_agent_whom_nobody_ever_tells_opens_by_itself(door: Door) -> None:
    await door.start_engine()
    assert await door.lacks()
    assert await door.lacks(after=29)
    assert await door.lacks(after=2) == ""


async def test_the_times_begin_when_the_engine_listens(door: Door) -> None:
    assert "does not listen" in await door.lacks()
    assert "does not listen" in await door.lacks(after=1000)
    await door.start_engine()
    assert await door.lacks()
    assert await door.lacks(after=29)
    assert await door.lacks(after=2) == ""


async def test_an_engine_on_another_port_keeps_no_pod_closed_for_ever(door: Door) -> None:
    assert await door.lacks(after=LATEST_SECONDS - 1)
    assert await door.lacks(after=2) == ""


async def test_without_a_port_the_times_count_from_the_agents_start(tmp_path: Path) -> None:
    door = Door(tmp_path, 0)
    assert await door.lacks(after=29)
    assert await door.lacks(after=2) == ""
    await door.say(False, "engine-2")
    assert await door.lacks() == ""


async def test_once_open_it_stays_open_for_the_same_engine(door: Door) -> None:
    await door.start_engine()
    await door.say(True)
    await door.say(False)
    assert await door.lacks() == ""
    await door.stop_engine()
    await door.say(False)
    assert await door.lacks(after=10_000) == ""


async def test_it_closes_for_an_engine_that_starts_anew_until_that_has_everything(door: Door) -> None:
    await door.start_engine()
    await door.say(True)
    await door.stop_engine()
    door.now += 2 * LATEST_SECONDS
    await door.say(False, "engine-2", "its engine is starting")
    assert await door.lacks()
    await door.start_engine()
    assert await door.lacks() == "its engine is starting"
    await door.say(True, "engine-2")
    assert await door.lacks() == ""


async def test_the_times_of_an_engine_that_died_do_not_count_for_the_next(door: Door) -> None:
    await door.start_engine()
    await door.say(False)
    assert await door.lacks()
    await door.stop_engine()
    await door.say(False, "engine-2")
    assert "does not listen" in await door.lacks(after=100)
    await door.start_engine()
    assert await door.lacks()
    assert await door.lacks(after=29)


async def test_news_that_come_late_close_no_engine_that_may_be_serving(door: Door) -> None:
    await door.start_engine()
    await door.say(True)
    await door.say(False, "engine-2")
    assert await door.lacks() == ""


async def test_what_opened_without_a_word_is_not_closed_by_the_first(door: Door) -> None:
    await door.start_engine()
    assert await door.lacks()
    assert await door.lacks(after=31) == ""
    await door.stop_engine()
    await door.say(False)
    assert await door.lacks() == ""
    await door.say(False, "engine-2")
    assert await door.lacks()


async def test_an_agent_that_starts_anew_knows_that_its_pod_was_open(door: Door) -> None:
    await door.start_engine()
    await door.say(True)
    await door.restart_agent()
    assert await door.lacks() == ""
    await door.stop_engine()
    await door.say(False, "engine-1")
    assert await door.lacks() == ""
    await door.say(False, "engine-2")
    await door.restart_agent()
    assert await door.lacks(), "and that it was closed"


async def test_another_pod_on_the_same_disk_is_not_open_by_it(tmp_path: Path) -> None:
    async with a_door(tmp_path, "uid-1") as first, a_door(tmp_path, "uid-2") as second, a_door(tmp_path, "") as third:
        for door in (first, third):
            await door.say(True)
            await door.restart_agent()
        assert await first.lacks() == ""
        assert await second.lacks()
        assert await third.lacks(), "without a uid nobody can tell whose it was"


async def test_a_disk_that_does_not_tell_or_take_it_closes_nothing(door: Door, tmp_path: Path) -> None:
    (tmp_path / FOLDER).write_text("in the way")
    await door.say(True)
    assert await door.lacks() == ""
    await door.restart_agent()
    assert await door.lacks() == ""
    door.root = tmp_path / "gone"
    await door.restart_agent()
    assert await door.lacks() == ""


async def test_a_marker_that_is_damaged_still_says_open(door: Door, tmp_path: Path) -> None:
    await door.say(True)
    (tmp_path / FOLDER / "uid-1").write_bytes(b"\xff{")
    await door.restart_agent()
    assert await door.lacks() == ""


async def test_a_disk_that_hangs_holds_nothing_up(door: Door, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "DISK_SECONDS", 0.05)
    (tmp_path / FOLDER).mkdir()
    os.mkfifo(tmp_path / FOLDER / "uid-1")
    await door.restart_agent()
    assert await door.lacks() == ""
    with (tmp_path / FOLDER / "uid-1").open("w"):
        pass  # which lets the thread end


def test_markers_of_pods_that_are_gone_go_and_those_of_others_stay(tmp_path: Path) -> None:
    mine, other, gone = (Marker(tmp_path, uid) for uid in ("mine", "other", "gone"))
    for marker in (mine, other, gone):
        marker.write("c")
    for name in ("mine", "gone"):
        os.utime(tmp_path / FOLDER / name, (0, 0))
    mine.renew()
    assert (mine.read(), other.read(), gone.read()) == ("c", "c", None)
    assert VERY_OLD_SECONDS > 0


async def test_over_http_neither_a_lost_token_nor_a_lost_disk_closes_a_pod(tmp_path: Path) -> None:
    async with an_agent(tmp_path, pod_uid="uid-1") as agent:
        assert (await agent.ask("GET", "/readyz", token=None)).status == 503
        waits = await agent.ready("engine-1", is_open=False, message="waits for sql")
        assert (waits.status, waits.body) == (200, {"open": False})
        assert (await agent.ready("", is_open=True)).status == 400
        assert (await agent.ready("engine-1", is_open=True)).body == {"open": True}
        (tmp_path / "token").write_text("")
        await asyncio.to_thread(agent.root.rename, agent.root.with_name("gone"))
        assert (await agent.ask("GET", "/readyz", token=None)).status == 200
    (tmp_path / "gone").rename(tmp_path / "disk")
    async with an_agent(tmp_path, pod_uid="uid-1", token="short") as agent:
        assert (await agent.ask("GET", "/readyz", token=None)).status == 200
        assert (await agent.ready("engine-1", is_open=False)).reason == "TokenUnavailable"
        (tmp_path / "token").write_text(TOKEN)
        assert (await agent.ready("engine-1", is_open=False)).body == {"open": True}
