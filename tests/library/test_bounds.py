"""What nobody can use up for the others: places for uploads and downloads, the audit log, reviews of tokens."""

from __future__ import annotations

import asyncio
import contextlib
import io
import time
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest
from sqlalchemy import func, insert, select

from e2e.world.adapters import write_adapter
from lora_library.catalogue import audit
from lora_library.cluster.publisher import Publisher
from lora_library.cluster.resources import Template
from lora_library.database import Database
from lora_library.identity import token_review
from lora_library.identity.token_review import TokenReview
from lora_library.problems import Problem
from lora_library.receiving.pace import Pace, Places, paced
from lora_library.stores.folder import FolderStore
from lora_library.tables import AUDIT, OWNERS
from lora_library.web.sending import Downloads
from lora_operator.kube.client import Kube
from tests.library.conftest import Running


def test_an_owner_who_holds_a_place_gets_none_of_the_second_half() -> None:
    places = Places(8, 4, "TOO_MANY_UPLOADS", "uploads")
    with contextlib.ExitStack() as held:
        for _ in range(4):
            held.enter_context(places.one("mallory"))
        for owner in ("mallory", "alice", "bob", "carol"):
            if owner == "mallory":
                with pytest.raises(Problem, match="too many uploads"), places.one(owner):
                    pass
            else:
                held.enter_context(places.one(owner))
        with pytest.raises(Problem), places.one("alice"):
            pass
    with places.one("mallory"):
        assert places.held == 1


async def test_where_places_are_scarce_a_slow_body_is_broken_off() -> None:
    async def body() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b"x"

    pace = Pace(30.0, 0.0, 1e12, window_seconds=0.0)
    assert [each async for each in paced(body(), pace, lambda: False)] == [b"x"] * 3
    with pytest.raises(Problem) as caught:
        async for _ in paced(body(), pace, lambda: True):
            pass
    assert caught.value.code == "UPLOAD_TOO_SLOW"


async def test_a_client_that_takes_nothing_of_a_download_loses_its_place(tmp_path: Path) -> None:
    store, downloads = FolderStore(tmp_path), Downloads(1, 1, Pace(stall_seconds=0.01))
    store.put("a", bytes(4 << 20))
    answer = await downloads.answer(store, "a", 4 << 20, "alice", {}, None)

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body":
            with pytest.raises(Problem) as caught, downloads.places.one("bob"):
                pass
            assert caught.value.status == 429
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        await answer({"type": "http"}, cast(Any, None), send)
    assert downloads.places.held == 0


@pytest.mark.parametrize(
    ("wanted", "status", "content"),
    [
        (None, 200, b"0123456789"), ("bytes=2-4", 206, b"234"), ("bytes=7-", 206, b"789"), ("bytes=-3", 206, b"789"),
        ("bytes=5-99", 206, b"56789"), ("bytes=10-", 416, b""), ("bytes=4-2", 200, b"0123456789"), ("a=1-2", 200, None),
    ],
)  # fmt: skip
async def test_a_range_is_sent_as_it_was_asked_for(
    tmp_path: Path, wanted: str | None, status: int, content: bytes | None
) -> None:
    store = FolderStore(tmp_path)
    store.put("a", b"0123456789")
    answer = await Downloads(1, 1, Pace()).answer(store, "a", 10, "alice", {}, wanted)
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    await answer({"type": "http"}, cast(Any, None), send)
    assert answer.status_code == status
    assert content is None or b"".join(each.get("body", b"") for each in sent) == content


async def test_an_archive_that_asks_for_memory_to_unpack_it_is_refused(library: Running, tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path / "adapter", base_model="tiny")
    for method, wanted in ((zipfile.ZIP_DEFLATED, 201), (zipfile.ZIP_LZMA, 400), (zipfile.ZIP_BZIP2, 400)):
        out = io.BytesIO()
        with zipfile.ZipFile(out, "w", method) as archive:
            for each in adapter.iterdir():
                archive.write(each, each.name)
        files = {"file": ("a.zip", out.getvalue())}
        status, body = await library.alice.call("POST", "/api/loras/upload", files=files, data={"name": "a"})
        assert status == wanted, body
    assert "deflate" in body["detail"]


async def test_the_audit_log_has_a_size_and_notes_a_reader_once_an_hour(library: Running, tmp_path: Path) -> None:
    database = library.parts.library.database
    _, made = await library.alice.upload(write_adapter(tmp_path / "adapter", base_model="tiny"), "a")
    for _ in range(5):
        await library.alice.call("GET", f"{made['url']}/files/adapter_config.json")
    _, log = await library.root.call("GET", "/api/admin/loras/audit")
    assert [each["action"] for each in log["entries"]] == ["download", "upload"]
    async with database.writing() as connection:
        for n in range(10):
            await audit.note(connection, "change", actor="a", owner="a", lora=None, now=time.time() + n)
        await audit.forget(connection, 0.0, 3)
    async with database.reading() as connection:
        assert (await connection.execute(select(func.count()).select_from(AUDIT))).scalar_one() == 3


async def test_owners_who_cannot_be_told_keep_nobody_else_from_it(database: Database, tmp_path: Path) -> None:
    now = [1000.0]
    publisher = Publisher(database, FolderStore(tmp_path / "store"), None, Template("default"), lambda: now[0])
    async with database.writing() as connection:
        rows = [{"subject": f"owner-{n}", "created_at": 0.0, "revision": 1} for n in range(6)]
        await connection.execute(insert(OWNERS), rows)

    async def fails(*_: Any) -> None:
        raise ConnectionError

    publisher._write_cluster = fails  # type: ignore[method-assign]
    publisher._read = fails  # type: ignore[assignment, method-assign]
    tried: list[str] = []
    for _ in range(3):
        now[0] += 10
        for subject in await publisher.unpublished(limit=2):
            tried.append(subject)
            with contextlib.suppress(ConnectionError):
                await publisher.publish(subject)
    assert sorted(tried) == sorted({f"owner-{n}" for n in range(6)})


async def test_a_flood_of_bad_tokens_forgets_no_good_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_review, "MOST_KEPT", 3)
    asked: list[str] = []
    at_once = most = 0

    class Reviews:
        async def call(self, *_: Any, body: dict[str, Any], **__: Any) -> dict[str, Any]:
            nonlocal at_once, most
            at_once += 1
            most = max(most, at_once)
            await asyncio.sleep(0)
            at_once -= 1
            token = body["spec"]["token"]
            asked.append(token)
            return {"status": {"authenticated": token == "good", "user": {"username": "alice"}}}

    review = TokenReview(cast(Kube, Reviews()), clock=lambda: 5.0)
    assert await review.verify("good") is not None
    await asyncio.gather(*(review.verify(f"bad-{n}") for n in range(50)))
    assert await review.verify("good") is not None and await review.verify("bad-49") is None
    assert asked.count("good") == 1 and asked.count("bad-49") == 1
    assert most <= token_review.MOST_AT_ONCE and len(review._bad) == 3
