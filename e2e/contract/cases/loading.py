"""POST /v1/load_lora_adapter: what it answers."""

from __future__ import annotations

import asyncio
import contextlib

from ..by_release import (
    BASE_NAME,
    CLOSES_AFTER_LOAD_FAILURE,
    INPLACE_IS_STICKY,
    LOAD_FAILURE,
    LOAD_INPLACE,
    LOADS_LOCKED,
    MASKS_PATHS,
    NOT_FOUND_PREFIX,
)
from ..case import Cases
from ..target import BASE, Target

cases = Cases()
_PATH = "/v1/load_lora_adapter"


@cases("Success: 200, plain text, no content-type", python_only=True)
async def a_load_answers_with_plain_text_that_has_no_type(t: Target) -> None:
    reply = await t.load("r8", t.fixture("lora"))
    assert reply.status == 200
    assert reply.text == "Success: LoRA adapter 'r8' added successfully."
    assert reply.content_type is None


@cases("unknown fields are ignored")
async def unknown_fields_are_ignored(t: Target) -> None:
    assert (await t.load("a", t.fixture("lora"), lora_int_id=7, whatever={"x": 1})).status == 200
    assert await t.names() == ["a"]


@cases("400 InvalidUserInput: already loaded, from the same or another path", python_only=True)
async def a_name_that_is_loaded_is_refused_from_any_path(t: Target) -> None:
    await t.must_load("a", t.fixture("lora"))
    same = t.expect(await t.load("a", t.fixture("lora")), 400, "InvalidUserInput")
    other = t.expect(await t.load("a", t.fixture("lora-v2")), 400, "InvalidUserInput")
    assert same == other
    assert same.startswith("The lora adapter 'a' has already been loaded.")
    assert [card["root"] for card in await t.models()][1:] == [t.fixture("lora")]


@cases("400 InvalidUserInput: empty name", python_only=True)
async def an_empty_name_is_refused(t: Target) -> None:
    message = t.expect(await t.load("", t.fixture("lora")), 400, "InvalidUserInput")
    assert message == "Both 'lora_name' and 'lora_path' must be provided."


@cases("400 InvalidUserInput: empty path", python_only=True)
async def an_empty_path_is_refused(t: Target) -> None:
    t.expect(await t.load("a", ""), 400, "InvalidUserInput")


@cases(
    "an adapter named like the base: refused since 0.32, before that accepted; it takes over the name since 0.10",
    python_only=True,
)
async def a_name_equal_to_the_base_does_what_this_release_does(t: Target) -> None:
    base = await t.answer(BASE)
    reply = await t.load(BASE, t.fixture("lora"))
    if BASE_NAME[t.release] == "refused":
        assert "conflicts with a served base model" in t.expect(reply, 400, "InvalidUserInput")
        return
    assert reply.status == 200
    assert [card["id"] for card in await t.models()] == [BASE, BASE]
    assert (await t.answer(BASE) == base) is (BASE_NAME[t.release] == "unreachable")
    assert (await t.unload(BASE)).status == 200
    assert await t.answer(BASE) == base


@cases("400 Bad Request: missing field")
async def a_missing_field_is_a_bad_request(t: Target) -> None:
    t.expect(await t.post(_PATH, {"lora_name": "a"}), 400, "Bad Request")
    t.expect(await t.post(_PATH, {"lora_path": t.fixture("lora")}), 400, "Bad Request")


@cases("400 Bad Request: null field")
async def a_null_field_is_a_bad_request(t: Target) -> None:
    t.expect(await t.post(_PATH, {"lora_name": "a", "lora_path": None}), 400, "Bad Request")


@cases("400 Bad Request: wrong-type field", python_only=True)
async def a_field_of_another_type_is_a_bad_request(t: Target) -> None:
    t.expect(await t.post(_PATH, {"lora_name": 5, "lora_path": t.fixture("lora")}), 400, "Bad Request")
    t.expect(await t.post(_PATH, ["a", t.fixture("lora")]), 400, "Bad Request")


@cases("400 Bad Request: invalid JSON")
async def invalid_json_is_a_bad_request(t: Target) -> None:
    reply = await t.request("POST", _PATH, data='{"lora_name":', headers={"Content-Type": "application/json"})
    t.expect(reply, 400, "Bad Request")


@cases("400 Bad Request: wrong or absent Content-Type (never 415 or 422)")
async def another_content_type_is_a_bad_request(t: Target) -> None:
    body = f'{{"lora_name": "a", "lora_path": "{t.fixture("lora")}"}}'
    reply = await t.request("POST", _PATH, data=body, headers={"Content-Type": "text/plain"})
    t.expect(reply, 400, "Bad Request")
    reply = await t.request("POST", _PATH, data=body, skip_auto_headers=["Content-Type"])
    t.expect(reply, 400, "Bad Request")


@cases("404 NotFoundError: path absent", python_only=True)
async def an_absent_path_is_not_found(t: Target) -> None:
    message = t.expect(await t.load("a", "/nowhere/at/all"), 404, "NotFoundError")
    prefix = NOT_FOUND_PREFIX[t.release]
    assert message == f"{prefix}Loading lora a failed: No adapter found for /nowhere/at/all"


@cases("404 NotFoundError: paths under /tmp and others are masked as <path>, since 0.28", python_only=True)
async def paths_in_messages_are_masked(t: Target) -> None:
    message = t.expect(await t.load("a", "/tmp/no/adapter"), 404, "NotFoundError")
    masked = "<path>" if MASKS_PATHS[t.release] else "/tmp/no/adapter"
    assert message == f"{NOT_FOUND_PREFIX[t.release]}Loading lora a failed: No adapter found for {masked}"


@cases("404 NotFoundError: s3://, gs://, https://, file://, a Hugging Face id while offline", python_only=True)
async def urls_and_hub_names_are_not_found(t: Target) -> None:
    for path in ("s3://bucket/a", "gs://bucket/a", "https://host/a", f"file://{t.fixture('lora')}", "org/repo"):
        t.expect(await t.load("a", path), 404, "NotFoundError")


@cases("500 InternalServerError (400 BadRequestError before 0.18): path is a file")
async def a_path_that_is_a_file_is_a_load_failure(t: Target) -> None:
    reply = await t.load("a", t.fixture("lora") + "/adapter_config.json")
    assert "add_lora" in t.expect(reply, *LOAD_FAILURE[t.release])


@cases("After any failed load the server stays healthy")
async def after_failed_loads_the_server_is_healthy_and_lists_nothing(t: Target) -> None:
    for name in ("truncated", "config-not-json", "lora-r32", "dora", "no-config", "too-large-out"):
        assert (await t.load("a", t.fixture(name))).status != 200
    assert (await t.get("/health")).status == 200
    assert await t.names() == []
    await t.must_load("a", t.fixture("lora"))
    assert await t.answer("a") != await t.answer(BASE)


async def _exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: str) -> bytes:
    """Send a request and return the head of the answer, empty where the connection has been closed."""
    writer.write(request.encode())
    with contextlib.suppress(ConnectionError):
        await writer.drain()
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return b""
    await reader.readexactly(int(head.lower().split(b"content-length:")[1].split()[0]))
    return head


@cases(
    "from 0.18 to before 0.25 the connection is closed after a load failure, without a word in the headers",
    python_only=True,
)
async def after_a_load_failure_the_connection_is_kept_or_not(t: Target) -> None:
    host = t.url.removeprefix("http://")
    reader, writer = await asyncio.open_connection(*host.split(":"))
    body = '{"lora_name": "a", "lora_path": "/nowhere/at/all"}'
    head = f"Host: {host}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    first = await _exchange(reader, writer, f"POST {_PATH} HTTP/1.1\r\n{head}{body}")
    assert first.startswith(b"HTTP/1.1 404")
    assert b"connection: close" not in first.lower()
    second = await _exchange(reader, writer, f"GET /version HTTP/1.1\r\nHost: {host}\r\n\r\n")
    assert (second == b"") is CLOSES_AFTER_LOAD_FAILURE[t.release]
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


@cases("Four concurrent loads of one name: one 200, three 400")
async def of_four_loads_of_one_name_one_succeeds(t: Target) -> None:
    replies = await asyncio.gather(*(t.load("a", t.fixture("lora")) for _ in range(4)))
    if LOADS_LOCKED[t.release]:
        assert sorted(reply.status for reply in replies) == [200, 400, 400, 400]
        assert await t.names() == ["a"]
    else:
        assert 200 in [reply.status for reply in replies]


@cases("loads of different names at the same time all succeed")
async def loads_of_different_names_at_once_all_succeed(t: Target) -> None:
    replies = await asyncio.gather(*(t.load(name, t.fixture("lora")) for name in "abc"))
    assert [reply.status for reply in replies] == [200] * 3
    assert sorted(await t.names()) == ["a", "b", "c"]


@cases("one path under two names is two adapters")
async def one_path_can_have_two_names(t: Target) -> None:
    await t.must_load("a", t.fixture("lora"))
    await t.must_load("b", t.fixture("lora"))
    assert await t.answer("a") == await t.answer("b")


@cases("any name is accepted: commas, slashes, spaces, other alphabets")
async def any_name_is_accepted(t: Target) -> None:
    names = ["a,b", "../c", "with space", "имя", "x" * 300]
    for name in names:
        await t.must_load(name, t.fixture("lora"))
    assert await t.names() == names


@cases("load_inplace: ignored before 0.16, then swaps the weights of a loaded name")
async def load_inplace_swaps_the_weights_where_it_exists(t: Target) -> None:
    await t.must_load("a", t.fixture("lora"))
    await t.must_load("fresh", t.fixture("lora-v2"))
    reply = await t.load("a", t.fixture("lora-v2"), load_inplace=True)
    if not LOAD_INPLACE[t.release]:
        t.expect(reply, 400, "InvalidUserInput")
        return
    assert reply.status == 200
    assert await t.answer("a") == await t.answer("fresh")
    assert [card["root"] for card in await t.models() if card["id"] == "a"] == [t.fixture("lora-v2")]


@cases("load_inplace is sticky before 0.33: the disk is read again for later requests")
async def load_inplace_goes_on_reading_the_disk(t: Target) -> None:
    if not LOAD_INPLACE[t.release]:
        return
    folder = t.copy("lora")
    await t.must_load("a", folder, load_inplace=True)
    await t.must_load("fresh", t.fixture("lora-v2"))
    before = await t.answer("a")
    weights = folder / "adapter_model.safetensors"
    weights.write_bytes((t.copy("lora-v2") / weights.name).read_bytes())
    after = await t.answer("a")
    assert (after == before) is not INPLACE_IS_STICKY[t.release]
    assert after in (before, await t.answer("fresh"))
