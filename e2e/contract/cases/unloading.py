"""POST /v1/unload_lora_adapter: what it answers, and what it leaves."""

from __future__ import annotations

import asyncio

from ..case import Cases
from ..target import BASE, SHORT, Target

cases = Cases()
_PATH = "/v1/unload_lora_adapter"


@cases("200 text `Success: … removed successfully.`", python_only=True)
async def an_unload_answers_with_plain_text(t: Target) -> None:
    await t.must_load("r8", t.fixture("lora"))
    reply = await t.unload("r8")
    assert reply.status == 200
    assert reply.text == "Success: LoRA adapter 'r8' removed successfully."
    assert reply.content_type is None
    assert await t.names() == []


@cases("extra lora_int_id is ignored", python_only=True)
async def an_id_in_an_unload_is_ignored(t: Target) -> None:
    await t.must_load("a", t.fixture("lora"))
    assert (await t.unload("a", lora_int_id=12345)).status == 200


@cases("404 NotFoundError for an unknown name", python_only=True)
async def an_unknown_name_is_not_found(t: Target) -> None:
    assert t.expect(await t.unload("nobody"), 404, "NotFoundError") == "The lora adapter 'nobody' cannot be found."


@cases("404 NotFoundError for the base's name")
async def the_base_cannot_be_unloaded(t: Target) -> None:
    t.expect(await t.unload(BASE), 404, "NotFoundError")


@cases("400 for an empty or missing name", python_only=True)
async def an_empty_or_missing_name_is_refused(t: Target) -> None:
    t.expect(await t.unload(""), 400, "InvalidUserInput")
    t.expect(await t.post(_PATH, {}), 400, "Bad Request")


@cases("unloading twice: 200, then 404")
async def unloading_twice_finds_nothing_the_second_time(t: Target) -> None:
    await t.must_load("a", t.fixture("lora"))
    assert [(await t.unload("a")).status, (await t.unload("a")).status] == [200, 404]


@cases("new requests get 404 at once")
async def after_an_unload_new_requests_are_not_found(t: Target) -> None:
    await t.must_load("a", t.fixture("lora"))
    assert (await t.complete("a")).status == 200
    await t.unload("a")
    message = t.expect(await t.complete("a"), 404, "NotFoundError")
    assert message.startswith("The model `a` does not exist.")


@cases("requests already running finish with the old weights, although the name is loaded again from a new path")
async def a_running_request_keeps_its_weights_through_a_swap(t: Target) -> None:
    await t.must_load("a", t.fixture("lora"))
    undisturbed = "".join([piece async for piece in t.stream("a", max_tokens=200)])
    stream = t.stream("a", max_tokens=200)
    pieces = [await anext(stream)]
    await t.unload("a")
    await t.must_load("a", t.fixture("lora-v2"))
    pieces += [piece async for piece in stream]
    assert "".join(pieces) == undisturbed


@cases("the files of an unloaded name are not needed any more once its requests have ended")
async def the_files_of_an_unloaded_name_may_go(t: Target) -> None:
    folder = t.copy("lora")
    await t.must_load("a", folder)
    assert (await t.complete("a")).status == 200
    await t.unload("a")
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    assert (await t.complete(BASE)).status == 200
    assert (await t.get("/health")).status == 200


@cases("four concurrent unloads of one name: one 200, three 404")
async def of_four_unloads_of_one_name_one_succeeds(t: Target) -> None:
    await t.must_load("a", t.fixture("lora"))
    replies = await asyncio.gather(*(t.unload("a") for _ in range(4)))
    assert sorted(reply.status for reply in replies) == [200, 404, 404, 404]


@cases("a load that follows an unload is a new load")
async def a_name_can_be_used_again(t: Target) -> None:
    await t.must_load("fresh", t.fixture("lora-v2"))
    await t.must_load("a", t.fixture("lora"))
    await t.unload("a")
    await t.must_load("a", t.fixture("lora-v2"))
    assert await t.answer("a", SHORT) == await t.answer("fresh", SHORT)
