"""Picks of adapters that are loaded when somebody asks for them, over HTTP: asked for, waited for, answered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from lora_operator.router import api as module
from lora_operator.router import deciding
from lora_operator.router.wire import LoadingAnswer, PickAnswer
from tests.core.api_server import ApiServer
from tests.router.fleet import Fleet
from tests.router.recording import an_asking, recorded
from tests.router.serving import Served, served

POET = {"adapter": "poet"}


def a_cold_fleet() -> Fleet:
    """Two pods; `poet` and `bard` are on none of them until somebody asks."""
    fleet = Fleet(epoch="e")
    fleet.pod("vllm-0", "10.0.0.1")
    fleet.pod("vllm-1", "10.0.0.2")
    fleet.adapter("lazy", names=("bard", "poet"), on_demand=True)
    fleet.refresh()
    return fleet


def load(fleet: Fleet, *pods: str) -> None:
    """The engines have `poet`, and status says so."""
    fleet.adapter("lazy", {pod: {"poet": "poet"} for pod in pods}, names=("bard",), on_demand=True, asked=("poet",))
    fleet.refresh()


@asynccontextmanager
async def cold(fleet: Fleet | None = None) -> AsyncIterator[tuple[Served, ApiServer]]:
    async with an_asking() as (kube_api, asking, _), served(fleet or a_cold_fleet(), asking=asking) as api:
        yield api, kube_api


async def until_waiting(api: Served, count: int) -> None:
    """Until so many requests wait."""
    while api.api.decider.waiting != count:  # noqa: ASYNC110 - it is the server's own count
        await asyncio.sleep(0.005)


async def test_who_does_not_wait_is_told_that_it_is_being_loaded() -> None:
    async with cold() as (api, kube_api), api.session.post(f"{api.url}/v1/pick", json=POET) as answer:
        body = await answer.json()
        assert (answer.status, answer.headers["Retry-After"]) == (202, "1")
        said = LoadingAnswer.model_validate(body)
        assert (said.state, said.namespace, said.adapter, said.base_model) == ("loading", "team-a", "poet", "llama")
        assert (said.reason, said.message) == ("LoadOnDemand", "it is loaded when it is asked for")
        assert recorded(kube_api).keys() == {("team-a", "poet")}
        assert (await api.post("/v1/pick", POET))[0] == 202
        assert len(kube_api.writes()) == 1


async def test_a_thousand_who_wait_make_one_write_and_are_spread_over_the_pods_that_come(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # it takes a while until a thousand have been read
    monkeypatch.setattr(module, "BODY_SECONDS", 600.0)
    async with cold() as (api, kube_api):
        connector = aiohttp.TCPConnector(limit=0)
        async with aiohttp.ClientSession(connector=connector) as session:

            async def ask() -> tuple[int, Any]:
                async with session.post(f"{api.url}/v1/pick", json={**POET, "waitSeconds": 120}) as answer:
                    return answer.status, await answer.json()

            asks = [asyncio.create_task(ask()) for _ in range(1000)]
            await until_waiting(api, 1000)
            assert len(kube_api.writes()) == 1
            load(api.fleet, "vllm-0", "vllm-1")
            answers = await asyncio.gather(*asks)
        assert {status for status, _ in answers} == {200}
        pods = [PickAnswer.model_validate(body).pod for _, body in answers]
        assert min(pods.count("vllm-0"), pods.count("vllm-1")) > 300
        assert len(kube_api.writes()) == 1


async def test_who_waited_in_vain_is_told_what_it_waits_for() -> None:
    async with cold() as (api, _):
        api.fleet.adapter(
            "lazy", names=("bard", "poet"), on_demand=True, asked=("poet",),
            ready=("False", "Loading", "loading poet (40 % fetched)"),
        )  # fmt: skip
        api.fleet.refresh()
        status, body = await api.post("/v1/pick", {**POET, "waitSeconds": 0.05})
        assert (status, body["reason"], body["message"]) == (202, "Loading", "loading poet (40 % fetched)")


async def test_one_that_the_operator_has_given_up_is_refused_at_once_with_its_reason() -> None:
    async with cold() as (api, kube_api):
        waiting = asyncio.create_task(api.post("/v1/pick", {**POET, "waitSeconds": 60}))
        await until_waiting(api, 1)
        api.fleet.adapter(
            "lazy", names=("bard", "poet"), on_demand=True, asked=("poet",),
            failed={"poet": {"code": "RankTooHigh", "message": "rank 64 exceeds 16"}},
            ready=("False", "RankTooHigh", "poet: rank 64"),
        )  # fmt: skip
        api.fleet.refresh()
        for status, body in (await waiting, await api.post("/v1/pick", {**POET, "waitSeconds": 60})):
            assert (status, body["type"]) == (503, "urn:lora-operator:router:not-loaded")
            assert (body["reason"], body["detail"][-18:]) == ("RankTooHigh", "rank 64 exceeds 16")
        kube_api.away = True
        assert (await api.post("/v1/pick", POET))[1]["reason"] == "RankTooHigh"
        kube_api.away = False
        status, body = await api.post("/v1/pick", {"adapter": "bard"})  # the reason is not its own
        assert (status, body["reason"]) == (202, "LoadOnDemand")
        assert recorded(kube_api).keys() == {("team-a", "poet"), ("team-a", "bard")}


async def test_one_whose_source_cannot_show_it_is_refused() -> None:
    fleet = Fleet()
    fleet.adapter("lazy", explicit=("poet",), on_demand=True, ready=("False", "NotFound", "gone"), source_ready=False)
    fleet.refresh()
    async with cold(fleet) as (api, _):
        status, body = await api.post("/v1/pick", {**POET, "waitSeconds": 60})
        assert (status, body["reason"]) == (503, "NotFound")


async def test_an_adapter_that_goes_while_it_is_waited_for_is_unknown() -> None:
    async with cold() as (api, _):
        waiting = asyncio.create_task(api.post("/v1/pick", {**POET, "waitSeconds": 60}))
        await until_waiting(api, 1)
        api.fleet.drop_adapter("lazy")
        api.fleet.refresh()
        status, body = await waiting
        assert (status, body["type"]) == (404, "urn:lora-operator:router:unknown-adapter")


async def test_without_the_api_server_nobody_is_told_that_it_is_being_loaded() -> None:
    async with cold() as (api, kube_api):
        kube_api.away = True
        status, body = await api.post("/v1/pick", {**POET, "waitSeconds": 60})
        assert (status, body["type"]) == (503, "urn:lora-operator:router:not-recorded")
        assert body["reason"] == "ApiServerAway"
        load(api.fleet, "vllm-0")
        assert (await api.post("/v1/pick", POET))[0] == 200


async def test_who_waits_goes_on_waiting_while_the_api_server_is_away() -> None:
    async with an_asking() as (kube_api, asking, clock), served(a_cold_fleet(), asking=asking) as api:
        waiting = asyncio.create_task(api.post("/v1/pick", {**POET, "waitSeconds": 60}))
        await until_waiting(api, 1)
        kube_api.away = True
        clock.now += 30  # it is time to record it once more
        calls = len(kube_api.calls)
        api.fleet.adapter("lazy", names=("bard", "poet"), on_demand=True, asked=("poet",))
        api.fleet.refresh()
        await kube_api.until_calls(calls + 1)
        await until_waiting(api, 1)
        load(api.fleet, "vllm-0")
        assert (await waiting)[0] == 200


async def test_a_wait_ends_in_time_though_the_api_server_says_nothing() -> None:
    async with an_asking() as (kube_api, asking, clock), served(a_cold_fleet(), asking=asking) as api:
        waiting = asyncio.create_task(api.post("/v1/pick", {**POET, "waitSeconds": 0.5}))
        await until_waiting(api, 1)
        kube_api.stall = asyncio.Event()
        clock.now += 30
        api.fleet.adapter("lazy", names=("bard", "poet"), on_demand=True, asked=("poet",))
        api.fleet.refresh()
        assert (await waiting)[0] == 202
        assert not kube_api.stall.is_set()


async def test_clients_that_go_free_their_places() -> None:
    async with cold() as (api, _), aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        asks = [
            asyncio.create_task(session.post(f"{api.url}/v1/pick", json={**POET, "waitSeconds": 60}))
            for _ in range(100)
        ]
        await until_waiting(api, 100)
        for ask in asks[:-1]:
            ask.cancel()
        await until_waiting(api, 1)
        load(api.fleet, "vllm-0")
        async with await asks[-1] as answer:
            assert answer.status == 200
        await until_waiting(api, 0)
        await asyncio.gather(*asks, return_exceptions=True)


async def test_who_waits_is_answered_when_the_router_stops() -> None:
    async with cold() as (api, _):
        asks = [asyncio.create_task(api.post("/v1/pick", {**POET, "waitSeconds": 60})) for _ in range(50)]
        await until_waiting(api, 50)
        api.api.stop()
        assert {status for status, _ in await asyncio.gather(*asks)} == {202}
        assert (await api.post("/v1/pick", {**POET, "waitSeconds": 60}))[0] == 202  # it is recorded already
        status, body = await api.post("/v1/pick", {"adapter": "bard", "waitSeconds": 60})
        assert (status, body["reason"]) == (503, "Stopping")


async def test_beyond_a_bounded_number_of_waiting_requests_answers_come_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(deciding, "MOST_WAITING", 3)
    async with cold() as (api, _):
        asks = [asyncio.create_task(api.post("/v1/pick", {**POET, "waitSeconds": 60})) for _ in range(3)]
        await until_waiting(api, 3)
        assert (await api.post("/v1/pick", {**POET, "waitSeconds": 60}))[0] == 202
        load(api.fleet, "vllm-0")
        assert {status for status, _ in await asyncio.gather(*asks)} == {200}


async def test_a_wait_outlives_a_table_that_changes_faster_than_its_log_is_long() -> None:
    fleet = Fleet(log_length=1)
    fleet.pod("vllm-0", "10.0.0.1")
    fleet.adapter("lazy", names=("bard", "poet"), on_demand=True)
    fleet.refresh()
    async with cold(fleet) as (api, _):
        waiting = asyncio.create_task(api.post("/v1/pick", {**POET, "waitSeconds": 60}))
        await until_waiting(api, 1)
        fleet.adapter("more", {"vllm-0": {"a": "a", "b": "b"}})
        load(fleet, "vllm-0")
        assert (await waiting)[0] == 200


async def test_adapters_that_are_loaded_at_the_start_can_be_waited_for_and_are_not_recorded() -> None:
    fleet = a_cold_fleet()
    fleet.adapter("eager", names=("scribe",), ready=("False", "Loading", "loading scribe"))
    fleet.refresh()
    async with cold(fleet) as (api, kube_api):
        status, body = await api.post("/v1/pick", {"adapter": "scribe", "waitSeconds": 0.05})
        assert (status, body["reason"]) == (503, "Loading")
        waiting = asyncio.create_task(api.post("/v1/pick", {"adapter": "scribe", "waitSeconds": 60}))
        await until_waiting(api, 1)
        fleet.adapter("eager", {"vllm-0": {"scribe": "scribe"}})
        fleet.refresh()
        assert (await waiting)[0] == 200
        assert kube_api.writes() == []


async def test_lines_of_the_table_say_which_adapters_are_loaded_on_demand() -> None:
    fleet = a_cold_fleet()
    fleet.adapter("eager", {"vllm-0": {"scribe": "scribe"}})
    load(fleet, "vllm-1")
    async with cold(fleet) as (api, _):
        adapters = (await api.get("/v1/adapters?includeUnloaded=true"))[1]["adapters"]
        assert {one["name"]: one.get("onDemand") for one in adapters} == {"bard": True, "poet": True, "scribe": None}


@pytest.mark.parametrize("seconds", [-1, 120.5, "soon", float("nan")])
async def test_a_wait_that_makes_no_sense_is_refused_by_name(seconds: Any) -> None:
    async with cold() as (api, _):
        status, body = await api.post("/v1/pick", {**POET, "waitSeconds": seconds})
        assert (status, body["type"]) == (400, "urn:lora-operator:router:bad-request")
        assert "the body: " in body["detail"]


async def test_the_line_of_who_was_refused_the_name_does_not_hide_the_one_that_has_it() -> None:
    fleet = a_cold_fleet()
    fleet.adapter("a-later-one", failed={"poet": {"code": "Conflict", "message": "taken"}})
    fleet.refresh()
    async with cold(fleet) as (api, _):
        assert (await api.post("/v1/pick", POET))[0] == 202
