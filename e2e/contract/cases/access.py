"""The API key, runtime updating switched off, and a server without LoRA."""

from __future__ import annotations

from ..by_release import GUARDED, LOAD_FAILURE, OPEN_ADAPTERS
from ..case import Cases, Server
from ..target import BASE, Target

cases = Cases(Server.KEYED)


@cases('--api-key: 401 {"error": "Unauthorized"}, a string')
async def without_the_key_every_v1_path_is_unauthorized(t: Target) -> None:
    for method, path in (("GET", "/v1/models"), ("POST", "/v1/load_lora_adapter"), ("POST", "/v1/completions")):
        for key in ("", "another"):
            reply = await t.request(method, path, key=key)
            assert (reply.status, reply.json) == (401, {"error": "Unauthorized"})


@cases("the key opens what it guards")
async def with_the_key_adapters_load_and_answer(t: Target) -> None:
    await t.must_load("a", t.fixture("lora"))
    assert (await t.complete("a")).status == 200
    assert await t.names() == ["a"]


@cases("the scheme is Bearer, in any case")
async def the_scheme_is_bearer_in_any_case(t: Target) -> None:
    assert t.key is not None
    reply = await t.get("/v1/models", key="", headers={"Authorization": f"bearer {t.key}"})
    assert reply.status == 200
    assert (await t.get("/v1/models", key="", headers={"Authorization": f"Basic {t.key}"})).status == 401
    assert (await t.get("/v1/models", key="", headers={"Authorization": t.key})).status == 401


@cases("guarded are /v1, since 0.25 /v2 and /inference, since 0.28 /cohere", python_only=True)
async def the_guarded_prefixes_are_those_of_the_release(t: Target) -> None:
    for path in ("/v1/x", "/v2/x", "/inference/x", "/cohere/x"):
        expected = 401 if path in GUARDED[t.release] else 404
        assert (await t.get(path, key="")).status == expected, path


@cases("/health, /ping, /version and /metrics are open", python_only=True)
async def health_version_and_metrics_need_no_key(t: Target) -> None:
    for path in ("/health", "/ping", "/version", "/metrics"):
        assert (await t.get(path, key="")).status == 200


@cases("SageMaker's POST /adapters and DELETE /adapters/{name} are open, since 0.12", python_only=True)
async def sagemaker_paths_load_and_unload_without_a_key(t: Target) -> None:
    body = {"name": "s", "src": t.fixture("lora")}
    reply = await t.post("/adapters", body, key="")
    if not OPEN_ADAPTERS[t.release]:
        assert reply.status == 404
        return
    assert reply.status == 200
    assert await t.names() == ["s"]
    t.expect(await t.post("/adapters", body, key=""), 400, "InvalidUserInput")
    t.expect(await t.post("/adapters", {"name": "s2", "src": "/nowhere/at/all"}, key=""), 404, "NotFoundError")
    t.expect(await t.post("/adapters", {"name": "s2"}, key=""), 400, "Bad Request")
    assert (await t.request("DELETE", "/adapters/s", key="")).status == 200
    t.expect(await t.request("DELETE", "/adapters/s", key=""), 404, "NotFoundError")
    assert await t.names() == []


@cases("/invocations is open", python_only=True)
async def invocations_answer_without_a_key(t: Target) -> None:
    await t.must_load("a", t.fixture("lora"))
    reply = await t.post("/invocations", {"model": "a", "prompt": "hello", "max_tokens": 2}, key="")
    assert reply.status == 200


@cases(
    'VLLM_ALLOW_RUNTIME_LORA_UPDATING off: load, unload, /adapters 404 {"detail": "Not Found"}',
    server=Server.NOT_UPDATABLE,
    python_only=True,
)
async def without_runtime_updating_there_is_no_load_path(t: Target) -> None:
    for reply in (
        await t.load("a", t.fixture("lora")),
        await t.unload("a"),
        await t.post("/adapters", {"name": "a", "src": t.fixture("lora")}),
        await t.request("DELETE", "/adapters/a"),
    ):
        assert (reply.status, reply.json) == (404, {"detail": "Not Found"})


@cases("runtime updating off: everything else works", server=Server.NOT_UPDATABLE)
async def without_runtime_updating_the_base_is_served(t: Target) -> None:
    assert [card["id"] for card in await t.models()] == [BASE]
    assert (await t.complete(BASE)).status == 200


@cases("server without --enable-lora: a load failure", server=Server.WITHOUT_LORA, python_only=True)
async def a_server_without_lora_fails_every_load(t: Target) -> None:
    t.expect(await t.load("a", t.fixture("lora")), *LOAD_FAILURE[t.release])
    assert await t.names() == []
    assert (await t.get("/health")).status == 200
    assert (await t.complete(BASE)).status == 200
