"""A malware scanner that is asked by HTTP: nothing is served before it has said that it is clean."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from aiohttp import web

from e2e.world.adapters import write_adapter
from lora_library.database import Database
from lora_library.rebuild import rebuild
from lora_operator.process.listening import listen
from tests.library.conftest import Running, served

WEIGHTS = "adapter_model.safetensors"


class Desk:
    """A scanner, which answers as its test says; `in_pieces`: one byte at a time."""

    def __init__(self) -> None:
        self.status, self.in_pieces = 200, False
        self.answer: dict[str, Any] = {"clean": True}
        self.seen: list[tuple[str, int, str]] = []

    async def scan(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.seen.append((request.headers["X-File-Name"], len(body), request.headers.get("Authorization", "")))
        if not self.in_pieces:
            return web.json_response(self.answer, status=self.status)
        response = web.StreamResponse()
        await response.prepare(request)
        for byte in json.dumps(self.answer).encode():
            await response.write(bytes([byte]))
            await asyncio.sleep(0.001)  # else they travel together
        return response


@contextlib.asynccontextmanager
async def scanned(folder: Path) -> AsyncIterator[tuple[Running, Desk]]:
    desk = Desk()
    application = web.Application(client_max_size=1 << 30)
    application.router.add_post("/scan", desk.scan)
    runner = web.AppRunner(application)
    await runner.setup()
    port = await listen(runner, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{port}/scan"
    try:
        async with served(folder, scan_url=url, scan_token="for-the-scanner") as library:
            yield library, desk
    finally:
        await runner.cleanup()


def published(library: Running) -> list[str]:
    return [key for key in library.stored if key.startswith("published/") and key.endswith(WEIGHTS)]


async def state_of(library: Running, url: str) -> tuple[str, list[tuple[int, str]], int]:
    _, body = await library.alice.call("GET", url)
    return body["state"], [(each["version"], each["state"]) for each in body["versions"]], body["version"]


async def test_nothing_is_served_before_the_scanner_has_found_it_clean(tmp_path: Path) -> None:
    async with scanned(tmp_path) as (library, desk):
        scanner = library.parts.scanner
        assert scanner is not None
        first = write_adapter(tmp_path / "first", base_model="tiny")
        status, made = await library.alice.upload(first, "style")
        assert status == 201 and not published(library)
        assert await state_of(library, made["url"]) == ("quarantined", [(1, "quarantined")], 1)
        assert (await library.alice.call("GET", f"{made['url']}/files/{WEIGHTS}"))[0] == 409
        # whatever is no answer is none: it stays where it is, and is asked again, but not at once
        desk.status = 500
        assert await scanner.one() and not await scanner.one()
        assert not published(library)
        desk.status, scanner._clock = 200, lambda: 2e9
        desk.answer = {"fine": True}
        assert await scanner.one() and not published(library)
        desk.answer, scanner._clock = {"clean": True}, lambda: 3e9
        assert await scanner.one() and len(published(library)) == 1
        assert (await state_of(library, made["url"]))[0] == "Unknown"
        sizes = {each.name: each.stat().st_size for each in first.iterdir()}
        assert set(desk.seen) == {(name, size, "Bearer for-the-scanner") for name, size in sizes.items()}
        # a new version waits beside the old one
        desk.answer = {"clean": False, "reason": "Eicar"}
        second = write_adapter(tmp_path / "second", base_model="tiny", seed=1)
        await library.alice.upload(second, "style")
        assert await state_of(library, made["url"]) == ("Unknown", [(2, "quarantined"), (1, "active")], 1)
        status, body = await library.alice.call("PATCH", made["url"], json={"version": 2})
        assert (status, body["code"]) == (409, "QUARANTINED")
        assert await scanner.one()
        assert await state_of(library, made["url"]) == ("Unknown", [(2, "rejected"), (1, "active")], 1)
        status, body = await library.alice.upload(second, "again")
        assert status == 400 and "Eicar" in body["detail"]
        # an administrator knows better
        verdict = f"/api/admin/loras/{made['id']}/versions/2/verdict"
        assert (await library.alice.call("PUT", verdict, json={"clean": True}))[0] == 403
        assert (await library.root.call("PUT", verdict, json={"clean": True}))[0] == 204
        assert (await state_of(library, made["url"]))[2] == 2
        for number in (2, 1):
            away: dict[str, Any] = {"clean": False, "reason": "found later"}
            await library.root.call("PUT", f"/api/admin/loras/{made['id']}/versions/{number}/verdict", json=away)
        assert (await state_of(library, made["url"]))[0] == "rejected" and not published(library)


async def test_a_scanner_may_answer_in_pieces_and_say_what_is_no_text(tmp_path: Path) -> None:
    async with scanned(tmp_path) as (library, desk):
        scanner = library.parts.scanner
        assert scanner is not None
        desk.in_pieces = True
        _, made = await library.alice.upload(write_adapter(tmp_path / "fine", base_model="tiny"), "fine")
        assert await scanner.one() and (await state_of(library, made["url"]))[0] == "Unknown"
        desk.answer = {"clean": False, "reason": "a\0b\ud800" + "c" * 1000}
        _, made = await library.alice.upload(write_adapter(tmp_path / "bad", base_model="tiny", seed=1), "bad")
        assert await scanner.one()
        _, body = await library.alice.call("GET", made["url"])
        assert body["versions"][0]["verdict"].startswith("adapter_config.json: a?b?ccc")


async def test_what_is_in_quarantine_stays_there_when_the_database_is_made_again(tmp_path: Path) -> None:
    async with scanned(tmp_path) as (library, _):
        await library.alice.upload(write_adapter(tmp_path / "first", base_model="tiny"), "style")
        again = Database(str(tmp_path / "again.db"))
        await again.migrate()
        assert await rebuild(again, library.parts.library.store) == (1, 0)
        async with again.reading() as connection:
            rows = await connection.exec_driver_sql("SELECT loras.state, objects.state FROM loras, objects")
            assert [tuple(row) for row in rows] == [("quarantined", "quarantined")]
        await again.close()
