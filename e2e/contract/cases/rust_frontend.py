"""The Rust frontend (`vllm-rs`), where it speaks another contract than the server in Python: seen on 0.33."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import aiohttp

from ..case import Cases, Place, Server
from ..frontend import Frontend
from ..target import BASE, Target

cases = Cases(frontend=Frontend.RUST)
_PLAIN = "text/plain; charset=utf-8"
_REFUSED = (400, "BadRequestError")
_FAILED = (500, "InternalServerError")


async def _evict(t: Target) -> None:
    for index in range(3):
        await t.must_load(f"filler-{index}", t.fixture("lora-v3"))


@cases("recognised by rust_frontend_version in /version and owned_by vllm-frontend-rs")
async def the_rust_frontend_can_be_recognised(t: Target) -> None:
    await t.must_load("a", t.fixture("lora"))
    assert {"version", "rust_frontend_version"} == (await t.get("/version")).json.keys()
    assert {card["owned_by"] for card in await t.models()} == {"vllm-frontend-rs"}


@cases("load and unload: the same words, as text/plain")
async def load_and_unload_answer_with_plain_text(t: Target) -> None:
    reply = await t.load("r8", t.fixture("lora"))
    assert (reply.status, reply.content_type) == (200, _PLAIN)
    assert reply.text == "Success: LoRA adapter 'r8' added successfully."
    reply = await t.unload("r8")
    assert (reply.status, reply.content_type) == (200, _PLAIN)
    assert reply.text == "Success: LoRA adapter 'r8' removed successfully."


@cases("400 BadRequestError: already loaded, empty name or path, the base's name, another lora_int_id")
async def what_is_wrong_in_a_request_is_a_bad_request(t: Target) -> None:
    await t.must_load("a", t.fixture("lora"))
    for reply in (
        await t.load("a", t.fixture("lora")),
        await t.load("", t.fixture("lora")),
        await t.load("b", ""),
        await t.load(BASE, t.fixture("lora")),
        await t.unload(""),
        await t.unload("a", lora_int_id=12345),
    ):
        t.expect(reply, *_REFUSED)
    t.expect(await t.unload("nobody"), 404, "NotFoundError")
    assert await t.names() == ["a"]


@cases("400 BadRequestError: a path that is absent, relative, or outside of the allowed prefixes")
async def paths_outside_of_the_allowed_prefixes_are_refused(t: Target) -> None:
    for path in ("/nowhere/at/all", "/etc", "./lora", t.fixture("lora") + "/.." * 30):
        t.expect(await t.load("a", path), *_REFUSED)


@cases("500 InternalServerError: s3://, https://, file://, a Hugging Face id while offline, a folder without config")
async def what_is_no_adapter_is_a_load_failure(t: Target) -> None:
    for path in ("s3://bucket/a", "https://host/a", f"file://{t.fixture('lora')}", "org/repo", t.fixture("no-config")):
        t.expect(await t.load("a", path), *_FAILED)


@cases("root is the path with links and .. resolved")
async def a_path_is_listed_with_its_links_resolved(t: Target) -> None:
    link = t.scratch / "link"
    link.symlink_to(t.fixture("lora"))
    await t.must_load("a", link)
    await t.must_load("b", t.fixture("lora") + "/../lora-v2/")
    expected = [str(Path(t.fixture(name)).resolve()) for name in ("lora", "lora-v2")]  # noqa: ASYNC240
    assert [card["root"] for card in await t.models()][1:] == expected


@cases("an evicted adapter is not unloaded (500) and stays listed, until it has been read again")
async def an_evicted_adapter_is_unloaded_after_it_has_been_read_again(t: Target) -> None:
    await t.must_load("a", t.fixture("lora"))
    await _evict(t)
    t.expect(await t.unload("a"), *_FAILED)
    assert "a" in await t.names()
    assert (await t.load("a", t.fixture("lora"), load_inplace=True)).status == 200
    assert (await t.unload("a")).status == 200
    assert "a" not in await t.names()


@cases("loading an evicted adapter in place whose files are gone fails, and nothing else happens")
async def loading_in_place_without_files_does_no_harm(t: Target) -> None:
    folder = t.copy("lora")
    await t.must_load("a", folder)
    await _evict(t)
    shutil.rmtree(folder)
    t.expect(await t.load("a", folder, load_inplace=True), *_REFUSED)
    assert (await t.get("/health")).status == 200
    assert (await t.complete(BASE)).status == 200
    shutil.copytree(t.fixture("lora"), folder)


@cases("an unknown path: 404, another method: 405, both with nothing else")
async def errors_of_the_framework_have_no_body(t: Target) -> None:
    for path, status in (("/nothing/here", 404), ("/v1/load_lora_adapter", 405)):
        reply = await t.get(path)
        assert (reply.status, reply.text) == (status, "")


@cases("no /ping, no /invocations, no SageMaker's /adapters")
async def what_others_have_is_not_there(t: Target) -> None:
    for path in ("/ping", "/invocations", "/adapters"):
        assert (await t.post(path, {"name": "s", "src": t.fixture("lora")})).status == 404


@cases("lora_requests_info has no max_lora, and names nobody once all is idle")
async def an_idle_frontend_says_nothing_of_adapters(t: Target) -> None:
    await t.must_load("m-special", t.fixture("lora"))
    await t.complete("m-special")
    page = (await t.get("/metrics")).text
    assert "m-special" not in page
    assert "max_lora=" not in page


@cases("VLLM_ALLOW_RUNTIME_LORA_UPDATING off: load and unload 404 with nothing", server=Server.NOT_UPDATABLE)
async def without_runtime_updating_nothing_is_said(t: Target) -> None:
    for reply in (await t.load("a", t.fixture("lora")), await t.unload("a")):
        assert (reply.status, reply.text) == (404, "")


@cases("server without --enable-lora: 400 BadRequestError", server=Server.WITHOUT_LORA)
async def a_server_without_lora_refuses_every_load(t: Target) -> None:
    t.expect(await t.load("a", t.fixture("lora")), *_REFUSED)


@cases("when its engine has died, /health is 503, and the process ends", place=Place.FINAL)
async def a_frontend_whose_engine_has_died_is_not_healthy(t: Target) -> None:
    folder: Path = t.copy("lora")
    await t.must_load("a", folder)
    await _evict(t)
    shutil.rmtree(folder)
    assert (await t.complete("a")).status >= 500
    try:
        while (await t.get("/health")).status == 200:  # noqa: ASYNC110  there is no event to wait for
            await asyncio.sleep(0.05)  # the frontend hears of it a little later
        assert (await t.get("/health")).status == 503
    except aiohttp.ClientError:
        pass  # the process has ended by then
    assert t.exit_code is not None
    async with asyncio.timeout(60):
        await t.exit_code()
