"""`lora-operator router` as a whole, against an API server on loopback that can be away."""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any

import aiohttp
import pytest

from lora_operator.api.well_known import POD_LABEL
from lora_operator.cli.main import parser
from lora_operator.informers import informer
from lora_operator.manager.router import run_router
from lora_operator.router import cluster_informers as following
from lora_operator.router import freshness
from lora_operator.router.settings import RouterSettings, from_arguments
from lora_operator.settings.options import SettingsError
from lora_operator.telemetry.server import ServeError
from tests.core.api_server import ApiServer, an_api_server
from tests.core.test_app import LORA, PODS, a_list
from tests.router.recording import MAP, MAPS


def a_resource(*pods: str, version: str = "4") -> dict[str, Any]:
    assignments = [{"pod": pod, "address": "10.0.0.1:8000", "adapters": ["sql"]} for pod in pods]
    return {
        "metadata": {"name": "la", "namespace": "ns", "uid": "la", "resourceVersion": version},
        "spec": {"baseModel": "tiny", "adapterSource": {"type": "local", "repository": "/m"}},
        "status": {"podAssignments": assignments, "adapters": [{"name": "sql"}]},
    }


def a_pod(name: str) -> dict[str, Any]:
    status = {"podIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": "True"}]}
    labels = {POD_LABEL: "enabled"}
    metadata = {"name": name, "namespace": "ns", "uid": name, "resourceVersion": "3", "labels": labels}
    return {"metadata": metadata, "spec": {"containers": [{"name": "vllm"}]}, "status": status}


@dataclass
class Running:
    api: ApiServer
    stop: asyncio.Event
    task: asyncio.Task[None]
    url: str
    session: aiohttp.ClientSession

    async def get(self, path: str) -> tuple[int, Any]:
        async with self.session.get(self.url + path) as answer:
            return answer.status, await answer.json(content_type=None)

    async def until(self, path: str, done: Callable[[int, Any], bool]) -> Any:
        async with asyncio.timeout(60):
            while True:
                try:
                    status, body = await self.get(path)
                except aiohttp.ClientConnectionError:
                    await asyncio.sleep(0.01)  # it is still starting
                    continue
                if done(status, body):
                    return body


@asynccontextmanager
async def a_router(monkeypatch: pytest.MonkeyPatch, port: int, *pods: str) -> AsyncIterator[Running]:
    monkeypatch.setattr(informer, "PAUSES", (0.05,))
    monkeypatch.setattr(freshness, "LOOK_SECONDS", 0.05)
    async with an_api_server() as api, aiohttp.ClientSession() as session:
        api.lists = {LORA: a_list(a_resource(*pods)), PODS: a_list(*(a_pod(pod) for pod in pods))}
        stop = asyncio.Event()
        settings = replace(
            RouterSettings(), host="127.0.0.1", port=port, relist_seconds=0.05, requests_namespace="system"
        )
        task = asyncio.create_task(run_router(settings, api.kube, stop))
        try:
            yield Running(api, stop, task, f"http://127.0.0.1:{port}", session)
        finally:
            stop.set()
            await asyncio.gather(task, return_exceptions=True)


async def test_it_lists_and_answers_and_ends_in_order(monkeypatch: pytest.MonkeyPatch, unused_tcp_port: int) -> None:
    async with a_router(monkeypatch, unused_tcp_port, "p0") as router:
        body = await router.until("/v1/adapters/sql/pods", lambda status, _: status == 200)
        assert [one["address"] for one in body["pods"]] == ["10.0.0.1:8000"]
        router.stop.set()
        await router.task


async def test_it_answers_from_its_last_table_while_the_api_server_is_away_and_says_how_old_it_is(
    monkeypatch: pytest.MonkeyPatch, unused_tcp_port: int, caplog: pytest.LogCaptureFixture
) -> None:
    async with a_router(monkeypatch, unused_tcp_port, "p0") as router:
        await router.until("/readyz", lambda status, body: status == 200 and body["apiServer"] == "Reachable")
        router.api.away = True
        body = await router.until("/readyz", lambda status, body: body["apiServer"] == "Away")
        assert body["ready"] and "the API server does not answer" in body["message"]
        assert len((await router.get("/v1/adapters/sql/pods"))[1]["pods"]) == 1
        assert caplog.text.count("the API server does not answer, the table stays as it was") == 1
        router.api.away = False
        await router.until("/readyz", lambda status, body: body["apiServer"] == "Reachable")


async def test_one_watch_that_is_not_fresh_for_a_while_makes_it_unready_as_others_may_see_more(
    monkeypatch: pytest.MonkeyPatch, unused_tcp_port: int
) -> None:
    monkeypatch.setattr(following, "STALE_SECONDS", 1.5)
    async with a_router(monkeypatch, unused_tcp_port, "p0") as router:
        await router.until("/readyz", lambda status, _: status == 200)
        router.api.statuses[PODS] = 500
        body = await router.until("/readyz", lambda status, _: status == 503)
        assert not body["ready"]
        assert body["message"].startswith(f"the watch of pods ({POD_LABEL}=enabled) has not been fresh for")
        assert len((await router.get("/v1/adapters/sql/pods"))[1]["pods"]) == 1, "whoever asks all the same is answered"
        router.api.statuses.clear()
        await router.until("/readyz", lambda status, _: status == 200)


async def test_what_no_watch_told_is_found_by_the_next_list(
    monkeypatch: pytest.MonkeyPatch, unused_tcp_port: int
) -> None:
    async with a_router(monkeypatch, unused_tcp_port, "p0", "p1") as router:
        await router.until("/v1/adapters/sql/pods", lambda status, body: status == 200 and len(body["pods"]) == 2)
        router.api.lists[PODS] = a_list(a_pod("p0"), version="9")
        await router.until("/v1/adapters/sql/pods", lambda status, body: len(body["pods"]) == 1)
        router.api.lists[LORA] = a_list(version="9")
        await router.until("/v1/adapters/sql/pods", lambda status, body: status == 404)


async def test_until_the_first_list_works_it_is_not_ready(
    monkeypatch: pytest.MonkeyPatch, unused_tcp_port: int, caplog: pytest.LogCaptureFixture
) -> None:
    async with a_router(monkeypatch, unused_tcp_port) as router:
        router.api.lists, router.api.defined = {}, None
        body = await router.until("/readyz", lambda status, body: status == 503 and "is missing" in body["message"])
        assert not body["ready"]
        await router.api.until_calls(2)
        await router.until("/v1/adapters", lambda status, body: status == 503)
        assert caplog.messages == [body["message"]]
        assert "apply crds/" in body["message"]


async def test_it_ends_in_order_while_requests_wait_for_an_adapter(
    monkeypatch: pytest.MonkeyPatch, unused_tcp_port: int
) -> None:
    lazy = a_resource()
    lazy["spec"]["deploymentConfig"] = {"loadOnStartup": False}
    async with a_router(monkeypatch, unused_tcp_port) as router:
        router.api.lists[LORA] = a_list(lazy, version="9")
        await router.until("/v1/adapters/sql/pods", lambda status, _: status == 200)
        ask = {"adapter": "sql", "waitSeconds": 100}
        asks = [asyncio.create_task(router.session.post(f"{router.url}/v1/pick", json=ask)) for _ in range(20)]
        await until_text(router, "lora_operator_router_waiting_picks 20.0")
        router.stop.set()
        await router.task
        assert {(await one).status for one in asks} == {202}
        assert router.api.writes() == [MAP, MAPS]  # looked for in vain, and made


async def until_text(router: Running, line: str) -> None:
    """Until the metrics say so."""
    async with asyncio.timeout(60):
        while True:
            async with router.session.get(f"{router.url}/metrics") as answer:
                if line in await answer.text():
                    return


async def test_a_port_that_is_taken_is_named(monkeypatch: pytest.MonkeyPatch, unused_tcp_port: int) -> None:
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", unused_tcp_port)
    async with server, a_router(monkeypatch, unused_tcp_port) as router:
        with pytest.raises(ServeError, match=f"cannot listen on 127.0.0.1:{unused_tcp_port}"):
            await router.task


def test_its_settings_come_from_flags_and_environment() -> None:
    given = parser("router").parse_args(["router", "--namespace", "a", "--namespace", "b", "--port", "9"])
    settings = from_arguments(given, {"LORA_ROUTER_STREAMS": "7"})
    assert (settings.namespaces, settings.port, settings.streams) == (("a", "b"), 9, 7)
    with pytest.raises(SettingsError, match="a namespace's name is empty"):
        from_arguments(argparse.Namespace(namespaces=[""]), {})
