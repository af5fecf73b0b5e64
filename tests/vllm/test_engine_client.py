"""The engine client against recorded answers of all releases."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from lora_operator.vllm.client import Endpoint, EngineClient, EngineModel, LoadOutcome, UnloadOutcome
from lora_operator.vllm.errors import (
    EngineAnswerInvalid,
    EngineError,
    EngineFailing,
    EngineTimeout,
    EngineUnauthorized,
    EngineUnreachable,
    LoadRefused,
    ModelListTooLong,
    NameTakenByOther,
    RuntimeUpdatingDisabled,
    UnloadRefused,
)
from tests.vllm.replayed_engine import (
    BARE_NOT_FOUND,
    CUT,
    HANG,
    LOAD,
    MODELS,
    UNAUTHORIZED,
    UNLOAD,
    ReplayedEngine,
    Reply,
    flat,
    listing,
    loaded,
    nested,
    unloaded,
)

Shape = Callable[[int, str, str], Reply]
PATH = "/adapters/r8/0123456789abcdef"
DUPLICATE = (400, "InvalidUserInput", "The lora adapter 'r8' has already been loaded.")
both_shapes = pytest.mark.parametrize("shape", [flat, nested], ids=["flat", "nested"])


async def test_lists_base_and_adapters_in_the_engines_order(client: EngineClient, engine: ReplayedEngine) -> None:
    engine.says(MODELS, listing(b="/x/b", a="/x/a"))
    models = await client.models(engine.endpoint)
    assert models == (
        EngineModel("tiny", "/models/tiny", None),
        EngineModel("b", "/x/b", "tiny"),
        EngineModel("a", "/x/a", "tiny"),
    )
    assert [model.is_base for model in models] == [True, False, False]


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"[]", b"{}", b'{"data": {}}', b'{"data": [1]}', b'{"data": [{"id": 5}]}', b"[" * 10_000],
)
async def test_a_list_that_is_not_understood_is_never_an_empty_list(
    client: EngineClient, engine: ReplayedEngine, body: bytes
) -> None:
    engine.says(MODELS, Reply(200, body))
    with pytest.raises(EngineAnswerInvalid, match="port"):
        await client.models(engine.endpoint)


async def test_an_endless_list_is_cut_off(client: EngineClient, engine: ReplayedEngine) -> None:
    engine.says(MODELS, Reply(200, b" " * (5 * 2**20)))
    with pytest.raises(ModelListTooLong, match="more than 4194304 bytes"):
        await client.models(engine.endpoint)


async def test_a_list_of_more_names_than_an_engine_can_hold_is_not_taken(
    client: EngineClient, engine: ReplayedEngine
) -> None:
    names = [{"id": f"a{n}", "root": f"/a{n}", "parent": "tiny"} for n in range(4097)]
    engine.says(MODELS, Reply(200, json.dumps({"data": names}).encode()))
    with pytest.raises(ModelListTooLong, match="4097 names"):
        await client.models(engine.endpoint)
    engine.says(MODELS, Reply(200, json.dumps({"data": names[1:]}).encode()))
    assert len(await client.models(engine.endpoint)) == 4096
    engine.says(MODELS, Reply(200, b'{"data": [' + b"{}," * 20_000 + b"{}]}"))
    with pytest.raises(ModelListTooLong, match="more than the 4096"):
        await client.models(engine.endpoint)


async def test_a_failing_engine_is_told_from_one_that_is_not_vllm(client: EngineClient, engine: ReplayedEngine) -> None:
    engine.says(MODELS, nested(500, "InternalServerError", "EngineCore encountered an issue"))
    with pytest.raises(EngineFailing, match=r"answered 500 InternalServerError.*log of the vLLM container"):
        await client.models(engine.endpoint)


async def test_a_redirect_is_not_followed(client: EngineClient, engine: ReplayedEngine) -> None:
    engine.says(MODELS, Reply(302, headers={"Location": "/health"}))
    with pytest.raises(EngineAnswerInvalid):
        await client.models(replace(engine.endpoint, api_key="key"))
    assert engine.requests == [MODELS]


async def test_reads_release_and_health(client: EngineClient, engine: ReplayedEngine) -> None:
    engine.says(("GET", "/version"), Reply(200, b'{"version":"0.32.0"}'))
    engine.says(("GET", "/health"), Reply(200), Reply(503))
    assert await client.version(engine.endpoint) == "0.32.0"
    assert await client.health(engine.endpoint) is True
    assert await client.health(engine.endpoint) is False


async def test_reads_metrics(client: EngineClient, engine: ReplayedEngine) -> None:
    engine.says(("GET", "/metrics"), Reply(200, b'vllm:num_requests_running{engine="0"} 3.0\n\xff\n'))
    assert (await client.metrics(engine.endpoint)).requests_running == 3


async def test_a_load_sends_name_and_path_and_nothing_else(client: EngineClient, engine: ReplayedEngine) -> None:
    engine.says(LOAD, loaded("r8"))
    assert await client.load(engine.endpoint, "r8", PATH) is LoadOutcome.LOADED
    assert engine.bodies == [{"lora_name": "r8", "lora_path": PATH}]
    assert engine.headers[0]["Content-Type"] == "application/json"
    assert "Authorization" not in engine.headers[0]


@both_shapes
async def test_already_loaded_from_the_same_path_is_done(
    client: EngineClient, engine: ReplayedEngine, shape: Shape
) -> None:
    engine.says(LOAD, shape(*DUPLICATE))
    engine.says(MODELS, listing(r8=PATH))
    assert await client.load(engine.endpoint, "r8", PATH) is LoadOutcome.ALREADY_LOADED


@both_shapes
async def test_already_loaded_from_another_path_names_it(
    client: EngineClient, engine: ReplayedEngine, shape: Shape
) -> None:
    engine.says(LOAD, shape(*DUPLICATE))
    engine.says(MODELS, listing(r8="/elsewhere"))
    with pytest.raises(NameTakenByOther, match="already loaded from /elsewhere") as caught:
        await client.load(engine.endpoint, "r8", PATH)
    assert (caught.value.root, caught.value.is_base, caught.value.reason) == ("/elsewhere", False, "NameTaken")


async def test_the_base_models_name_is_taken_for_good(client: EngineClient, engine: ReplayedEngine) -> None:
    engine.says(LOAD, nested(400, "InvalidUserInput", "whatever it says"))
    with pytest.raises(NameTakenByOther, match="base model") as caught:
        await client.load(engine.endpoint, "tiny", PATH)
    assert caught.value.is_base and not caught.value.retryable


@pytest.mark.parametrize(
    ("reply", "type_", "retryable"),
    [
        (nested(400, "InvalidUserInput", "Both names must be provided."), "InvalidUserInput", False),
        (nested(400, "Bad Request", "[{'type': 'missing'}]"), "Bad Request", False),
        (flat(400, "BadRequestError", "LoRA rank 64 is greater than max_lora_rank 16."), "BadRequestError", True),
        (nested(404, "NotFoundError", "Loading lora r8 failed: No adapter found for <path>"), "NotFoundError", True),
        (nested(500, "InternalServerError", "Call to add_lora method failed"), "InternalServerError", True),
        (Reply(503, b"upstream connect error"), None, True),
        (Reply(422, b'{"detail":[{"loc":["body"]}]}'), None, False),
    ],
)  # fmt: skip
async def test_a_refusal_keeps_status_and_type(
    client: EngineClient, engine: ReplayedEngine, reply: Reply, type_: str | None, retryable: bool
) -> None:
    engine.says(LOAD, reply)
    with pytest.raises(LoadRefused, match=f"engine {engine.endpoint}: does not load adapter 'r8'") as caught:
        await client.load(engine.endpoint, "r8", PATH)
    assert (caught.value.status, caught.value.type, caught.value.retryable) == (reply.status, type_, retryable)
    assert caught.value.reason == "LoadRefused"


async def test_wording_decides_nothing(client: EngineClient, engine: ReplayedEngine) -> None:
    engine.says(LOAD, nested(500, "InternalServerError", DUPLICATE[2]), loaded("r8"))
    with pytest.raises(LoadRefused):
        await client.load(engine.endpoint, "r8", PATH)
    engine.says(LOAD, Reply(200, b"Error: rejected"))
    assert await client.load(engine.endpoint, "r8", PATH) is LoadOutcome.LOADED


async def test_without_runtime_updating_says_what_to_set(client: EngineClient, engine: ReplayedEngine) -> None:
    engine.says(LOAD, BARE_NOT_FOUND)
    engine.says(UNLOAD, BARE_NOT_FOUND)
    for call in (client.load(engine.endpoint, "r8", PATH), client.unload(engine.endpoint, "r8")):
        with pytest.raises(RuntimeUpdatingDisabled, match="VLLM_ALLOW_RUNTIME_LORA_UPDATING=True") as caught:
            await call
        assert not caught.value.retryable


async def test_sends_the_key_and_never_tells_it(client: EngineClient, engine: ReplayedEngine) -> None:
    key = "sk-very-secret"
    endpoint = replace(engine.endpoint, api_key=key)
    engine.says(LOAD, loaded("r8"), UNAUTHORIZED, nested(500, "InternalServerError", f"bad key {key}"))
    await client.load(endpoint, "r8", PATH)
    assert engine.headers[0]["Authorization"] == f"Bearer {key}"
    for expected in (EngineUnauthorized, LoadRefused):
        with pytest.raises(expected) as caught:
            await client.load(endpoint, "r8", PATH)
        assert key not in str(caught.value)
    assert key not in repr(endpoint)


async def test_a_short_key_leaves_messages_readable(client: EngineClient, engine: ReplayedEngine) -> None:
    engine.says(LOAD, nested(500, "InternalServerError", "rank 32 is too high, key=k"))
    with pytest.raises(LoadRefused, match=r"rank 32 is too high, key=\*\*\*;"):
        await client.load(replace(engine.endpoint, api_key="k"), "r8", PATH)


async def test_a_missing_key_is_told_from_a_wrong_one(client: EngineClient, engine: ReplayedEngine) -> None:
    engine.says(MODELS, UNAUTHORIZED)
    with pytest.raises(EngineUnauthorized, match="wants an API key"):
        await client.models(engine.endpoint)
    with pytest.raises(EngineUnauthorized, match="does not accept the API key"):
        await client.models(replace(engine.endpoint, api_key="wrong"))


@pytest.mark.parametrize("key", ["line\n", "a\r\nX-Evil: 1", "schlüssel", "\x00"])
async def test_a_key_that_no_header_can_carry_is_not_sent(
    client: EngineClient, engine: ReplayedEngine, key: str
) -> None:
    with pytest.raises(EngineUnauthorized, match="no HTTP header can carry"):
        await client.models(replace(engine.endpoint, api_key=key))
    assert engine.requests == []


async def test_a_load_that_timed_out_and_happened_is_done(hasty: EngineClient, engine: ReplayedEngine) -> None:
    engine.says(LOAD, HANG)
    engine.says(MODELS, listing(r8=PATH))
    assert await hasty.load(engine.endpoint, "r8", PATH) is LoadOutcome.CONFIRMED


async def test_a_load_that_timed_out_is_not_sent_again(hasty: EngineClient, engine: ReplayedEngine) -> None:
    engine.says(LOAD, HANG)
    with pytest.raises(EngineTimeout, match=r"POST /v1/load_lora_adapter within 0.1 s.*may still take effect"):
        await hasty.load(engine.endpoint, "r8", PATH)
    assert engine.requests == [LOAD, MODELS]


async def test_a_load_that_timed_out_beside_another_version_names_it(
    hasty: EngineClient, engine: ReplayedEngine
) -> None:
    engine.says(LOAD, HANG)
    engine.says(MODELS, listing(r8="/old"))
    with pytest.raises(NameTakenByOther):
        await hasty.load(engine.endpoint, "r8", PATH)


async def test_a_connection_that_broke_after_the_load_happened_is_done(
    client: EngineClient, engine: ReplayedEngine
) -> None:
    engine.says(LOAD, CUT)
    engine.says(MODELS, listing(r8=PATH))
    assert await client.load(engine.endpoint, "r8", PATH) is LoadOutcome.CONFIRMED
    assert engine.count(LOAD) == 1


async def test_a_broken_connection_is_tried_once_more(client: EngineClient, engine: ReplayedEngine) -> None:
    engine.says(LOAD, CUT, loaded("r8"))
    assert await client.load(engine.endpoint, "r8", PATH) is LoadOutcome.LOADED
    engine.says(LOAD, CUT)
    with pytest.raises(EngineUnreachable) as caught:
        await client.load(engine.endpoint, "r8", PATH)
    assert caught.value.maybe_received and not caught.value.refused
    assert engine.count(LOAD) == 4


async def test_an_engine_that_died_of_a_load_is_a_refusal(client: EngineClient, engine: ReplayedEngine) -> None:
    engine.says(LOAD, nested(500, "InternalServerError", "EngineCore encountered an issue"))
    engine.says(MODELS, CUT)
    with pytest.raises(LoadRefused, match="EngineCore"):
        await client.load(engine.endpoint, "r8", PATH)


async def test_a_duplicate_that_cannot_be_looked_up_is_no_refusal(client: EngineClient, engine: ReplayedEngine) -> None:
    engine.says(LOAD, nested(*DUPLICATE))
    engine.says(MODELS, CUT)
    with pytest.raises(EngineUnreachable):
        await client.load(engine.endpoint, "r8", PATH)


async def test_nobody_listening_is_refused_and_nothing_was_received(client: EngineClient) -> None:
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    with pytest.raises(EngineUnreachable, match="connection refused") as caught:
        await client.load(Endpoint("127.0.0.1", port), "r8", PATH)
    assert caught.value.refused and not caught.value.maybe_received


@pytest.mark.parametrize(
    ("address", "port"),
    [("", 1), ("a b", 1), ("[::1]", 1), ("999.1.1.1", 1), ("127.0.0.1/x", 1), ("::\r\nX: y", 1), ("127.0.0.1", 70000)],
)
async def test_an_address_that_is_none_is_an_error_with_a_name(client: EngineClient, address: str, port: int) -> None:
    with pytest.raises(EngineUnreachable, match="address is not valid"):
        await client.models(Endpoint(address, port))


async def test_what_does_not_speak_http_is_an_error_with_a_name(client: EngineClient) -> None:
    async def babble(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example ESMTP\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(babble, "127.0.0.1", 0) as server:
        with pytest.raises(EngineUnreachable, match="the connection broke"):
            await client.models(Endpoint("127.0.0.1", server.sockets[0].getsockname()[1]))


async def test_an_unload_is_done_if_it_was_known_or_not(client: EngineClient, engine: ReplayedEngine) -> None:
    engine.says(UNLOAD, unloaded("r8"), nested(404, "NotFoundError", "x"), flat(404, "NotFoundError", "x"))
    assert await client.unload(engine.endpoint, "r8") is UnloadOutcome.UNLOADED
    assert await client.unload(engine.endpoint, "r8") is UnloadOutcome.WAS_ABSENT
    assert await client.unload(engine.endpoint, "r8") is UnloadOutcome.WAS_ABSENT
    assert engine.bodies[0] == {"lora_name": "r8"}
    assert engine.count(MODELS) == 0


@pytest.mark.parametrize(
    "reply", [nested(500, "InternalServerError", "not resident"), Reply(404, b"<html>"), HANG, CUT]
)
async def test_an_unload_with_another_answer_is_decided_by_the_list(
    hasty: EngineClient, engine: ReplayedEngine, reply: Reply
) -> None:
    engine.says(UNLOAD, reply)
    assert await hasty.unload(engine.endpoint, "r8") is UnloadOutcome.CONFIRMED
    engine.says(MODELS, listing(r8=PATH))
    with pytest.raises((UnloadRefused, EngineTimeout, EngineUnreachable)):
        await hasty.unload(engine.endpoint, "r8")


async def test_an_adapter_called_like_the_base_is_seen_beside_it(client: EngineClient, engine: ReplayedEngine) -> None:
    engine.says(MODELS, listing(tiny=PATH))
    engine.says(UNLOAD, nested(500, "InternalServerError", "not now"))
    with pytest.raises(UnloadRefused):
        await client.unload(engine.endpoint, "tiny")


async def test_an_unload_on_an_engine_that_does_not_answer_at_all_is_a_timeout(
    hasty: EngineClient, engine: ReplayedEngine
) -> None:
    engine.says(UNLOAD, HANG)
    engine.says(MODELS, CUT)
    with pytest.raises(EngineTimeout):
        await hasty.unload(engine.endpoint, "r8")


async def test_messages_are_short_single_lines_without_secrets_of_links(
    client: EngineClient, engine: ReplayedEngine
) -> None:
    words = "no\n\x1b[31mfile at https://user:pw@store/x?X-Amz-Signature=abc " + "y" * 100_000
    engine.says(LOAD, nested(500, "InternalServerError", words), Reply(500, b"\xff" * 200_000))
    for _ in range(2):
        with pytest.raises(EngineError) as caught:
            await client.load(engine.endpoint, "r8" * 500, PATH)
        text = str(caught.value)
        assert len(text) < 900 and text.isprintable()
        assert "pw" not in text and "abc" not in text


async def test_an_error_type_of_any_kind_is_read(client: EngineClient, engine: ReplayedEngine) -> None:
    for body in (None, 5, "text", [], {"error": None}, {"error": {"type": 5, "message": {"a": 1}}}, {"message": ["x"]}):
        engine.says(LOAD, Reply(500, json.dumps(body).encode()))
        with pytest.raises(LoadRefused):
            await client.load(engine.endpoint, "r8", PATH)


async def test_a_hung_engine_delays_no_other(client: EngineClient, engine: ReplayedEngine) -> None:
    engine.says(LOAD, HANG)
    waiting = asyncio.create_task(client.load(engine.endpoint, "r8", PATH))
    assert [model.name for model in await client.models(engine.endpoint)] == ["tiny"]
    assert not waiting.done()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
