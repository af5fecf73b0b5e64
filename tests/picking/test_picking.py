"""Envoy is told where each request goes and what to ask for there, or what to answer instead."""

from __future__ import annotations

import asyncio
import logging
from asyncio.selector_events import _SelectorSocketTransport  # type: ignore[attr-defined]
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from grpclib.const import Status
from grpclib.exceptions import GRPCError
from hyperframe.frame import DataFrame, Frame, HeadersFrame

from lora_operator.picking.ext_proc_pb2 import ProcessingRequest
from tests.picking.gateway import Picking, picking
from tests.router.fleet import Fleet, a_fleet
from tests.router.recording import an_asking, recorded
from tests.router.test_on_demand import until_waiting

LLAMA = {"base-model": "llama"}


def a_fleet_with_bases() -> Fleet:
    """As `a_fleet`; its pods say that they serve llama, a third one serves mistral and holds nothing."""
    fleet = Fleet()
    fleet.pod("vllm-0", "10.0.0.1", says=LLAMA)
    fleet.pod("vllm-1", "10.0.0.2", says=LLAMA)
    fleet.pod("vllm-2", "10.0.0.3", says={"base-model": "mistral"})
    fleet.adapter("two", {"vllm-0": {"sql": "sql", "chat": "chat--1234"}, "vllm-1": {"sql": "sql"}})
    fleet.refresh()
    return fleet


async def test_a_request_goes_to_a_pod_that_holds_the_adapter_under_the_name_that_it_has_there() -> None:
    async with picking(a_fleet()) as it:
        told = await it.gateway.ask({"prompt": "hi", "model": "chat", "seed": 1})
        assert told.endpoint == "10.0.0.1:8000"
        assert told.metadata["envoy.lb"] == {"x-gateway-destination-endpoint": "10.0.0.1:8000"}
        assert told.metadata["lora-operator"] == {"model": "chat"}
        assert told.body == b'{"prompt": "hi", "model": "chat--1234", "seed": 1}'
        assert told.headers["content-length"] == str(len(told.body))
        assert (told.kinds, told.ends) == (["request_headers", "request_body"], True)
        assert await it.counted() == {"adapter": 1}


async def test_a_body_stays_as_it_is_where_the_engine_knows_the_adapter_by_its_name() -> None:
    async with picking(a_fleet()) as it:
        raw = b'{"model":"sql",  "prompt": "\\u00e9", "n": 1.0}'
        endpoints = set()
        for _ in range(30):
            told = await it.gateway.ask(raw)
            assert told.body == raw and "content-length" not in told.headers
            endpoints.add(told.endpoint)
        assert endpoints == {"10.0.0.1:8000", "10.0.0.2:8000"}


async def test_a_large_body_in_many_pieces_comes_through_whole() -> None:
    async with picking(a_fleet()) as it:
        told = await it.gateway.ask({"prompt": "x" * 3_000_000, "model": "chat"}, chunks=300)
        assert told.model == "chat--1234" and len(told.body) > 3_000_000


async def test_the_conversation_ends_in_the_same_piece_as_the_body(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[bytes] = []
    write = _SelectorSocketTransport.write

    def noted(self: object, data: bytes) -> None:
        written.append(bytes(data))
        write(self, data)

    async with picking(a_fleet()) as it:
        monkeypatch.setattr(_SelectorSocketTransport, "write", noted)
        for size in (10, 100_000):
            written.clear()
            await it.gateway.ask({"prompt": "x" * size, "model": "chat"})
            (piece,) = [one for one in written if b"chat--1234" in one]
            *_, body, end = frames_of(piece)
            assert (type(body), type(end)) == (DataFrame, HeadersFrame) and "END_STREAM" in end.flags


def frames_of(data: bytes) -> list[Frame]:
    found = []
    while data:
        frame, size = Frame.parse_frame_header(memoryview(data)[:9])
        found.append(frame)
        data = data[9 + size :]
    return found


async def test_trailers_behind_a_body_are_refused_since_envoy_would_double_the_body() -> None:
    async with picking(a_fleet()) as it:
        told = await it.gateway.ask({"model": "sql"}, trailers=True)
        assert (told.status, told.error["type"]) == (400, "BadRequestError") and "trailers" in told.error["message"]


async def test_an_unknown_adapter_is_answered_as_engines_do_with_names_like_it() -> None:
    async with picking(a_fleet()) as it:
        told = await it.gateway.ask({"model": "sq"})
        assert (told.status, told.headers["content-type"]) == (404, "application/json")
        assert (told.error["type"], told.error["code"], told.error["near"]) == ("NotFoundError", 404, ["sql"])
        assert "did you mean sql?" in told.error["message"]
        assert await it.counted() == {"unknown": 1}


async def test_an_adapter_that_is_not_loaded_is_answered_with_the_reason_and_when_to_come_again() -> None:
    fleet = a_fleet()
    fleet.adapter("big", failed={"huge": {"code": "RankTooHigh", "message": "rank 512 is above 64"}})
    fleet.refresh()
    async with picking(fleet) as it:
        told = await it.gateway.ask({"model": "huge"})
        assert (told.status, told.error["type"]) == (503, "RankTooHigh")
        assert "rank 512" in told.error["message"] and int(told.headers["retry-after"]) >= 1


async def test_requests_for_a_base_model_are_spread_over_its_pods() -> None:
    async with picking(a_fleet_with_bases()) as it:
        told = [await it.gateway.ask({"model": "llama"}) for _ in range(20)]
        assert {one.endpoint for one in told} == {"10.0.0.1:8000", "10.0.0.2:8000"}
        assert {one.model for one in told} == {"llama"}
        assert (await it.gateway.ask({"model": "mistral"})).endpoint == "10.0.0.3:8000"
        assert await it.counted() == {"base": 21}


async def test_a_pod_that_does_not_name_its_base_model_serves_what_its_endpoint_says() -> None:
    fleet = a_fleet_with_bases()
    for name, ip in (("vllm-0", "10.0.0.1"), ("vllm-1", "10.0.0.2")):
        fleet.pod(name, ip, says={"max-loras": "4"})
    fleet.refresh()
    async with picking(fleet) as it:
        told = [await it.gateway.ask({"model": "llama"}) for _ in range(20)]
        assert {one.endpoint for one in told} == {"10.0.0.1:8000", "10.0.0.2:8000"}


async def test_a_base_model_whose_pods_are_not_ready_is_unknown_until_they_are() -> None:
    fleet = a_fleet_with_bases()
    async with picking(fleet) as it:
        assert (await it.gateway.ask({"model": "mistral"})).status == 0
        fleet.pod("vllm-2", "10.0.0.3", says={"base-model": "mistral"}, ready=False)
        assert (await it.gateway.ask({"model": "mistral"})).status == 404


async def test_a_request_without_a_body_goes_to_any_pod() -> None:
    async with picking(a_fleet_with_bases()) as it:
        told = [await it.gateway.ask(method="GET", path="/version") for _ in range(30)]
        assert {one.endpoint for one in told} == {"10.0.0.1:8000", "10.0.0.2:8000", "10.0.0.3:8000"}
        assert told[0].kinds == ["request_headers"]
    async with picking(Fleet()) as it:
        assert (await it.gateway.ask(method="GET", path="/version")).status == 503


@pytest.mark.parametrize(
    "path",
    [
        "/v1/load_lora_adapter", "/v1/unload_lora_adapter?x", "/adapters", "/adapters/sql", "//v1//load_lora_adapter",
        "/v1/%6coad_lora_adapter", "/v1%2Fload_lora_adapter",
    ],
)  # fmt: skip
async def test_no_client_loads_or_unloads_adapters_through_the_gateway(path: str) -> None:
    async with picking(a_fleet_with_bases()) as it:
        assert (await it.gateway.ask({"model": "llama", "lora_name": "x"}, path=path)).status == 403
        assert (await it.gateway.ask(method="DELETE", path=path)).status == 403


async def test_what_names_no_model_is_refused() -> None:
    async with picking(a_fleet_with_bases()) as it:
        for body in (b"", b"hello", b"{}", b'{"model": 1}', b'{"model": "sql"'):
            told = await it.gateway.ask(body)
            assert (told.status, told.error["type"]) == (400, "BadRequestError")
        assert (await it.gateway.ask(method="DELETE", path="/v1/responses/1")).status == 400
        assert await it.counted() == {"bad": 6}


async def test_a_body_beyond_the_limit_is_refused_before_all_of_it_has_come() -> None:
    async with picking(a_fleet(), body_bytes=1000) as it:
        assert (await it.gateway.ask({"model": "sql", "prompt": "x" * 900})).status == 0
        told = await it.gateway.ask({"model": "sql", "prompt": "x" * 5000}, chunks=5)
        assert told.status == 413 and "--picker-body-bytes" in told.error["message"]
        assert await it.counted() == {"adapter": 1, "too_large": 1}


async def test_a_message_that_no_gateway_sends_is_not_taken_in() -> None:
    async with picking(a_fleet(), body_bytes=1000) as it:
        with pytest.raises(GRPCError) as caught:
            await it.gateway.ask({"model": "sql", "prompt": "x" * 200_000})
        assert caught.value.status is Status.RESOURCE_EXHAUSTED


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"\0\0\0\0\4\xff\xff\xff\xff", Status.INVALID_ARGUMENT),
        (b"\0\0\0\0\x20\x12", Status.INVALID_ARGUMENT),  # announced 32 bytes, and hung up after one
        (b"\1\0\0\0\1x", Status.UNIMPLEMENTED),
        (b"\0\xff\xff\xff\xff", Status.RESOURCE_EXHAUSTED),
    ],
)
async def test_what_no_gateway_says_is_refused_and_the_others_are_served_on(sent: bytes, status: Status) -> None:
    async with picking(a_fleet()) as it:
        with pytest.raises(GRPCError) as caught:
            async with asyncio.timeout(60), it.gateway._process.open() as stream:
                await stream.send_request()
                await stream._stream.send_data(sent, end_stream=True)
                stream._end_done = True
                await stream.recv_message()
        assert caught.value.status is status
        assert (await it.gateway.ask({"model": "sql"})).status == 0


@asynccontextmanager
async def a_body_that_does_not_end(it: Picking) -> AsyncIterator[Any]:
    """9,000 bytes of it have come."""
    first, piece = ProcessingRequest(), ProcessingRequest()
    first.request_headers.SetInParent()
    piece.request_body.body = b"x" * 9_000
    async with it.gateway._process.open() as slow:
        await slow.send_message(first)
        await slow.send_message(piece)
        async with asyncio.timeout(60):
            while it.server._exchange._limits.held_bytes < 9_000:  # noqa: ASYNC110 - it is the server's own count
                await asyncio.sleep(0)
        yield slow
        await slow.cancel()


async def test_bodies_that_never_end_fill_no_memory_and_keep_small_ones_out_no_more() -> None:
    async with picking(a_fleet()) as it:
        limits = it.server._exchange._limits
        limits.together_bytes, limits.small_bytes = 10_000, 1_500
        async with a_body_that_does_not_end(it):
            told = await it.gateway.ask({"model": "sql", "prompt": "x" * 2_000})
            assert (told.status, told.headers["retry-after"]) == (429, "1")
            assert (await it.gateway.ask({"model": "sql", "prompt": "x" * 1_400})).status == 0
            limits.together_bytes = 4_600
            assert (await it.gateway.ask({"model": "sql", "prompt": "x" * 1_400})).status == 429
        await it.server._exchange.idle()
        limits.together_bytes = 10_000
        assert (await it.gateway.ask({"model": "sql", "prompt": "x" * 2_000})).status == 0


async def test_a_body_has_to_come_in_time() -> None:
    async with picking(a_fleet()) as it:
        it.server._exchange._limits.body_seconds = 0.3
        async with a_body_that_does_not_end(it) as slow:
            async with asyncio.timeout(60):
                answer = await slow.recv_message()
            assert answer.immediate_response.status.code == 408
            await it.server._exchange.idle()
            assert it.server._exchange._limits.held_bytes == 0


async def test_bodies_in_a_mode_that_cannot_work_are_refused_with_what_to_set() -> None:
    async with picking(a_fleet()) as it:
        told = await it.gateway.ask({"model": "sql"}, mode="STREAMED")
        assert told.status == 500 and "FULL_DUPLEX_STREAMED" in told.error["message"]


async def test_only_endpoints_that_the_gateway_allows_are_chosen() -> None:
    async with picking(a_fleet_with_bases()) as it:
        for _ in range(10):  # though it becomes the busier one
            assert (await it.gateway.ask({"model": "sql"}, subset=["10.0.0.2:8000", "x"])).endpoint == "10.0.0.2:8000"
        for _ in range(20):
            assert (await it.gateway.ask({"model": "llama"}, subset="10.0.0.1:8000, y")).endpoint == "10.0.0.1:8000"
        for body in ({"model": "chat"}, {"model": "llama"}, None):
            for subset in ([], ["10.0.0.9:8000"]):
                told = await it.gateway.ask(body, subset=subset, method="GET" if body is None else "POST")
                assert (told.status, told.error["type"]) == (503, "NoneAllowed")


async def test_further_endpoints_are_named_where_the_gateway_can_try_them() -> None:
    async with picking(a_fleet(), endpoints=3) as it:
        told = await it.gateway.ask({"model": "sql"})
        assert set(told.endpoint.split(",")) == {"10.0.0.1:8000", "10.0.0.2:8000"}
        assert told.metadata["envoy.lb"]["x-gateway-destination-endpoint"] == told.endpoint
        assert (await it.gateway.ask({"model": "chat"})).endpoint == "10.0.0.1:8000"
        it.fleet.adapter("two", {"vllm-0": {"sql": "sql"}, "vllm-1": {"sql": "sql--2"}})
        it.fleet.refresh()
        # one body has one model: a pod that knows the adapter by another name is no replacement
        assert (await it.gateway.ask({"model": "sql"})).endpoint in ("10.0.0.1:8000", "10.0.0.2:8000")


def two_teams() -> Fleet:
    fleet = a_fleet_with_bases()
    fleet.pod("vllm-0", "10.0.1.1", says=LLAMA, namespace="team-b")
    fleet.adapter("theirs", {"vllm-0": {"sql": "sql-b", "own": "own"}}, namespace="team-b")
    fleet.refresh()
    return fleet


async def test_a_name_that_several_namespaces_have_needs_one_of_them() -> None:
    async with picking(two_teams()) as it:
        for body in ({"model": "sql"}, {"model": "llama"}):
            told = await it.gateway.ask(body)
            assert (told.status, told.error["type"]) == (400, "AmbiguousModel")
            assert "team-a, team-b" in told.error["message"] and "x-lora-namespace" in told.error["message"]
            for asked in (
                await it.gateway.ask(body, headers={"x-lora-namespace": "team-b"}),
                await it.gateway.ask(body, namespace="team-b"),
                # what the gateway's configuration says counts, whatever the client says
                await it.gateway.ask(body, namespace="team-b", headers={"x-lora-namespace": "team-a"}),
            ):
                assert asked.endpoint == "10.0.1.1:8000"
        assert (await it.gateway.ask({"model": "own"})).endpoint == "10.0.1.1:8000"


async def test_a_picker_of_one_namespace_knows_no_other() -> None:
    async with picking(two_teams(), namespace="team-a") as it:
        assert (
            await it.gateway.ask({"model": "sql"}, headers={"x-lora-namespace": "team-b"})
        ).endpoint != "10.0.1.1:8000"
        told = await it.gateway.ask({"model": "own"}, headers={"x-lora-namespace": "team-b"})
        assert told.status == 404 and "own" not in told.error.get("near", [])
        got = {(await it.gateway.ask(method="GET")).endpoint for _ in range(20)}
        assert "10.0.1.1:8000" not in got


def a_cold_fleet() -> Fleet:
    fleet = a_fleet()
    fleet.adapter("cold", names=("poet",), on_demand=True)
    fleet.refresh()
    return fleet


async def test_an_adapter_on_demand_is_asked_for_and_waited_for() -> None:
    fleet = a_cold_fleet()
    async with an_asking() as (api, asking, _), picking(fleet, asking) as it:
        asked = [asyncio.create_task(it.gateway.ask({"model": "poet"})) for _ in range(20)]
        await until_waiting(it.served, 20)
        assert [*recorded(api)] == [("team-a", "poet")]
        fleet.adapter("cold", {"vllm-1": {"poet": "poet-7"}}, on_demand=True)
        fleet.refresh()
        for told in await asyncio.gather(*asked):
            assert (told.endpoint, told.model) == ("10.0.0.2:8000", "poet-7")


async def test_an_adapter_that_comes_where_the_gateway_does_not_allow_is_not_chosen() -> None:
    fleet = a_cold_fleet()
    async with an_asking() as (_, asking, _), picking(fleet, asking) as it:
        asked = asyncio.create_task(it.gateway.ask({"model": "poet"}, subset=["10.0.0.1:8000"]))
        await until_waiting(it.served, 1)
        fleet.adapter("cold", {"vllm-1": {"poet": "poet"}}, on_demand=True)
        fleet.refresh()
        told = await asked
        assert (told.status, told.error["type"]) == (503, "NoneAllowed")


async def test_whoever_waits_too_long_is_told_to_come_again() -> None:
    async with an_asking() as (_, asking, _), picking(a_cold_fleet(), asking, wait_seconds=0.05) as it:
        told = await it.gateway.ask({"model": "poet"})
        assert told.status == 503 and int(told.headers["retry-after"]) >= 1
        assert await it.counted() == {"loading": 1}


async def test_a_client_that_goes_frees_its_place_at_once(caplog: pytest.LogCaptureFixture) -> None:
    async with an_asking() as (_, asking, _), picking(a_cold_fleet(), asking) as it:
        asked = asyncio.create_task(it.gateway.ask({"model": "poet"}))
        await until_waiting(it.served, 1)
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
        async with asyncio.timeout(60):
            await it.server._exchange.idle()
        assert it.served.api.decider.waiting == 0
        assert await it.counted() == {"unfinished": 1}
    assert not [one for one in caplog.records if one.levelno >= logging.WARNING]


async def test_too_many_who_wait_are_sent_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lora_operator.picking.choosing.MOST_WAITING", 1)
    async with an_asking() as (_, asking, _), picking(a_cold_fleet(), asking) as it:
        first = asyncio.create_task(it.gateway.ask({"model": "poet"}))
        await until_waiting(it.served, 1)
        told = await it.gateway.ask({"model": "poet"})
        assert (told.status, told.headers["retry-after"]) == (429, "1")
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
