"""GET /v1/models, and the other things that a server says about itself."""

from __future__ import annotations

import time

from ..case import Cases
from ..target import BASE, Target

cases = Cases()


@cases("Base: id, owned_by vllm, root is the model's path, parent null, max_model_len, permission", python_only=True)
async def the_base_is_listed_with_its_path_and_length(t: Target) -> None:
    reply = await t.get("/v1/models")
    assert reply.json["object"] == "list"
    base = reply.json["data"][0]
    assert base["id"] == BASE
    assert base["object"] == "model"
    assert base["owned_by"] == "vllm"
    assert base["parent"] is None
    assert base["max_model_len"] == 512
    assert base["root"].startswith("/")
    assert len(base["permission"]) == 1


@cases("Adapter: parent is the base, root the path as sent, max_model_len null", python_only=True)
async def an_adapter_is_listed_with_the_path_as_sent(t: Target) -> None:
    path = t.fixture("lora") + "/"
    await t.must_load("a", path)
    card = (await t.models())[1]
    assert card["id"] == "a"
    assert card["parent"] == BASE
    assert card["root"] == path
    assert card["max_model_len"] is None
    assert card["owned_by"] == "vllm"


@cases("root is the path exactly as sent, also through ..", python_only=True)
async def a_path_is_not_normalised(t: Target) -> None:
    path = t.fixture("lora") + "/../lora-v2"
    await t.must_load("a", path)
    assert (await t.models())[1]["root"] == path


@cases("created is the time of the call, not of the load")
async def created_is_the_time_of_the_call(t: Target) -> None:
    await t.must_load("a", t.fixture("lora"))
    before = int(time.time())
    cards = await t.models()
    assert all(before <= card["created"] <= time.time() for card in cards)


@cases("Order is load order")
async def the_order_is_that_of_loading(t: Target) -> None:
    for name in ("c", "a", "b"):
        await t.must_load(name, t.fixture("lora"))
    await t.complete("a")
    assert await t.names() == ["c", "a", "b"]
    await t.unload("c")
    await t.must_load("c", t.fixture("lora"))
    assert await t.names() == ["a", "b", "c"]


@cases("No rank, no residency", python_only=True)
async def a_card_tells_neither_rank_nor_residency(t: Target) -> None:
    await t.must_load("a", t.fixture("lora"))
    known = {"id", "object", "created", "owned_by", "root", "parent", "max_model_len", "permission"}
    assert (await t.models())[1].keys() == known


@cases("/health 200 empty")
async def health_is_empty(t: Target) -> None:
    reply = await t.get("/health")
    assert (reply.status, reply.text) == (200, "")


@cases("/is_sleeping says no, with VLLM_SERVER_DEV_MODE=1", changes=False)
async def an_engine_that_is_awake_says_so(t: Target) -> None:
    assert (await t.get("/is_sleeping")).json == {"is_sleeping": False}


@cases("/ping 200 empty", python_only=True)
async def ping_is_empty(t: Target) -> None:
    for method in ("GET", "POST"):
        reply = await t.request(method, "/ping")
        assert (reply.status, reply.text) == (200, "")


@cases('/version {"version": …}')
async def the_version_is_told(t: Target) -> None:
    reply = await t.get("/version")
    assert reply.json["version"].split("+")[0] == t.version


@cases("an unknown path: 404 of the framework", python_only=True)
async def an_unknown_path_is_answered_by_the_framework(t: Target) -> None:
    reply = await t.get("/nothing/here")
    assert (reply.status, reply.json) == (404, {"detail": "Not Found"})


@cases("another method: 405 of the framework", python_only=True)
async def another_method_is_answered_by_the_framework(t: Target) -> None:
    reply = await t.get("/v1/load_lora_adapter")
    assert (reply.status, reply.json) == (405, {"detail": "Method Not Allowed"})


@cases("Unknown model: 404 ``The model `r8` does not exist.``")
async def an_unknown_model_is_not_found(t: Target) -> None:
    for path, body in (
        ("/v1/completions", {"model": "r8", "prompt": "hello"}),
        ("/v1/chat/completions", {"model": "r8", "messages": [{"role": "user", "content": "hello"}]}),
    ):
        message = t.expect(await t.post(path, body), 404, "NotFoundError")
        assert message.startswith("The model `r8` does not exist.")


@cases("a chat is answered by the adapter that it names")
async def a_chat_is_answered_by_its_adapter(t: Target) -> None:
    await t.must_load("a", t.fixture("lora"))
    body = {"model": "a", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 4, "temperature": 0}
    reply = await t.post("/v1/chat/completions", body)
    assert reply.status == 200
    assert reply.json["model"] == "a"
    assert reply.json["choices"][0]["message"]["role"] == "assistant"


@cases("a request without a model is for the base")
async def a_request_without_a_model_is_for_the_base(t: Target) -> None:
    reply = await t.post("/v1/completions", {"prompt": "hello", "max_tokens": 2})
    assert reply.status == 200
    assert reply.json["model"] == BASE


@cases("a stream ends with [DONE] and has the same text")
async def a_stream_has_the_same_text(t: Target) -> None:
    await t.must_load("a", t.fixture("lora"))
    whole = (await t.complete("a", max_tokens=8)).json["choices"][0]["text"]
    assert "".join([piece async for piece in t.stream("a", max_tokens=8)]) == whole
