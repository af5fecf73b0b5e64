"""The operator as a whole begins and ends in order, also where something is missing."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lora_operator.api.well_known import POD_LABEL
from lora_operator.delivery import files
from lora_operator.informers import informer
from lora_operator.kube import preconditions
from lora_operator.kube import write_queue as writes
from lora_operator.kube.client import KubeError
from lora_operator.manager.operator import Operator
from lora_operator.process.components import ComponentExited
from lora_operator.router import cluster_informers as following
from lora_operator.settings.operator import Settings
from lora_operator.telemetry.server import ServeError
from tests.core.api_server import ANYTHING, ApiServer, an_api_server

LORA = "/apis/production-stack.vllm-project/v1alpha1/loraadapters"
PODS = "/api/v1/pods"


def a_list(*items: dict[str, Any], version: str = "5") -> list[dict[str, Any]]:
    return [{"metadata": {"resourceVersion": version}, "items": list(items)}]


def a_pod(name: str) -> dict[str, Any]:
    labels = {POD_LABEL: "enabled"}
    return {"metadata": {"name": name, "namespace": "ns", "uid": name, "resourceVersion": "3", "labels": labels}}


@asynccontextmanager
async def an_operator(folder: Path, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> AsyncIterator[Running]:
    monkeypatch.setattr(informer, "PAUSES", (0.01,))
    monkeypatch.setattr(following, "SAY_SECONDS", 0.01)
    async with an_api_server() as api:
        api.lists = {LORA: a_list(), PODS: a_list()}
        chosen = replace(
            Settings(), adapter_root=folder, host="127.0.0.1", health_port=0, metrics_port=0, router_port=0
        )
        running = Running(api, Operator(replace(chosen, **settings), api.kube))
        try:
            yield running
        finally:
            running.stop.set()
            with suppress(ComponentExited, ServeError):
                await running.task


class Running:
    def __init__(self, api: ApiServer, operator: Operator) -> None:
        self.api = api
        self.operator = operator
        self.stop = asyncio.Event()

    def start(self) -> None:
        self.task = asyncio.create_task(self.operator.run(self.stop))

    async def until(self, done: Callable[[], Any]) -> None:
        async with asyncio.timeout(60):
            while not done():
                if self.task.done():
                    self.task.result()
                await asyncio.sleep(0.005)

    async def planned(self) -> None:
        await self.until(lambda: self.operator.loop.last_end_at is not None)


async def test_it_plans_until_it_is_told_to_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with an_operator(tmp_path, monkeypatch) as running:
        running.start()
        await running.planned()
        running.stop.set()
        await running.task
        assert not [task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("watch")]


async def test_it_waits_for_an_api_server_that_refuses_and_says_so_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with an_operator(tmp_path, monkeypatch) as running:
        lists, running.api.lists = running.api.lists, {}
        running.start()
        await running.until(lambda: len(running.api.calls) > 3)
        assert caplog.text.count("cannot list what to look after") == 1
        running.api.lists = lists
        await running.planned()


async def test_what_was_refused_for_a_definition_that_lacked_is_written_once_it_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preconditions, "MISSING_SECONDS", 0.01)
    monkeypatch.setattr(writes, "FIRST_PAUSE_SECONDS", 3600.0)
    async with an_operator(tmp_path, monkeypatch) as running:
        running.api.defined, running.api.undefined = ANYTHING, {"loraendpoints"}
        running.start()
        await running.planned()
        await running.until(running.operator._needs.why)
        begun: list[str] = []

        async def write() -> None:
            begun.append("once")
            if running.api.undefined:
                raise KubeError(404, "no such kind")

        running.operator._writes.put(("LoraEndpoint", "ns/p0"), write, writes.Priority.STATUS)
        await running.until(lambda: begun)
        running.api.undefined = set()
        await running.until(lambda: len(begun) == 2)


async def test_what_could_not_be_written_is_as_soon_as_the_api_server_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writes, "FIRST_PAUSE_SECONDS", 3600.0)
    monkeypatch.setattr(writes, "AWAY_SECONDS", 3600.0)
    async with an_operator(tmp_path, monkeypatch) as running:
        running.start()
        await running.planned()
        begun: list[str] = []

        async def write() -> None:
            begun.append("once")
            await running.api.kube.version()

        running.api.away = True
        for path in list(running.api.streams):
            running.api._end_watch(path)
        await running.until(lambda: all(one.error for one in running.operator._following._all()))
        running.operator._writes.put(("status", "ns/la"), write, writes.Priority.STATUS)
        await running.until(lambda: running.operator._writes.pausing(("status", "ns/la")))
        running.api.away = False
        await running.until(lambda: len(begun) == 2)


async def test_it_can_be_stopped_while_it_waits_for_the_api_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with an_operator(tmp_path, monkeypatch) as running:
        running.api.lists = {}
        running.start()
        await running.until(lambda: len(running.api.calls) > 1)
        running.stop.set()
        await running.task


async def test_it_ends_when_a_part_ends_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with an_operator(tmp_path, monkeypatch) as running:

        async def broken() -> None:
            raise RuntimeError("a defect")

        monkeypatch.setattr(running.operator.loop, "run", broken)
        running.start()
        with pytest.raises(ComponentExited, match="planning loop") as caught:
            await running.task
        assert isinstance(caught.value.__cause__, RuntimeError)


async def test_it_ends_when_the_watches_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with an_operator(tmp_path, monkeypatch) as running:

        def broken(*_: Any) -> None:
            raise RuntimeError("a defect")

        monkeypatch.setattr(running.operator._following, "_end", broken)
        running.start()
        with pytest.raises(ComponentExited, match="watches"):
            await running.task


async def test_told_to_stop_before_all_was_listed_it_decides_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with an_operator(tmp_path, monkeypatch) as running:
        del running.api.lists[LORA]  # what the pods hold would be nobody's
        running.api.lists[PODS] = a_list(a_pod("p0"))
        running.start()
        await running.until(lambda: len(running.operator.cluster.pods) == 1)
        running.stop.set()
        await running.task
        assert running.operator.loop.last_end_at is None


async def test_a_volume_that_is_missing_is_said_and_stops_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with an_operator(tmp_path / "absent", monkeypatch) as running:
        running.start()
        await running.planned()
        assert "nothing can be loaded until then" in caplog.text


async def test_a_port_that_is_taken_ends_it_with_its_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        async with an_operator(tmp_path, monkeypatch, health_port=port) as running:
            running.start()
            with pytest.raises(ServeError, match=str(port)):
                await running.task


async def test_versions_that_nobody_wants_leave_the_volume(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "SWEEP_SECONDS", 0.01)
    old = tmp_path / "sql" / "0123456789abcdef"
    old.mkdir(parents=True)
    os.utime(old, (1000, 1000))
    async with an_operator(tmp_path, monkeypatch) as running:
        running.start()
        await running.until(lambda: not old.exists())
