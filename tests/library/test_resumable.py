"""Uploads that go on where they broke off, as tus 1.0 has it."""

from __future__ import annotations

import base64
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from e2e.world.adapters import write_adapter
from lora_library.web import resumable
from tests.library.conftest import Running, served

HEADERS = {"Authorization": "Bearer token-of-alice", "Tus-Resumable": "1.0.0"}


async def begun(library: Running, size: int, name: str = "", **headers: str) -> Any:
    metadata = {"Upload-Metadata": f"filename {base64.b64encode(name.encode()).decode()}"} if name else {}
    given = HEADERS | {"Upload-Length": str(size)} | metadata | headers
    return await library.client.post("/api/loras/uploads", headers=given)


async def sent(library: Running, place: str, offset: int, body: Any) -> Any:
    headers = HEADERS | {"Upload-Offset": str(offset), "Content-Type": "application/offset+octet-stream"}
    return await library.client.patch(place, headers=headers, content=body)


async def came(library: Running, place: str) -> int:
    return int((await library.client.head(place, headers=HEADERS)).headers["Upload-Offset"])


async def quota(library: Running) -> tuple[int, int]:
    _, body = await library.alice.call("GET", "/api/loras/quota")
    return body["used_bytes"], body["reserved_bytes"]


async def test_an_upload_goes_on_where_it_broke_off(
    library: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resumable, "LEAST_PIECE_BYTES", 1000)
    adapter = write_adapter(tmp_path / "adapter", base_model="tiny")
    ids = []
    total = sum(each.stat().st_size for each in adapter.iterdir())
    for path in sorted(adapter.iterdir()):
        content = path.read_bytes()
        answer = await begun(library, len(content), path.name)
        assert answer.status_code == 201 and answer.headers["Upload-Expires"].endswith("GMT")
        place = answer.headers["Location"]
        ids.append(place.rpartition("/")[2])

        async def breaks_off(content: bytes = content) -> AsyncIterator[bytes]:
            yield content[: len(content) // 2]
            raise ConnectionResetError

        if len(content) > 4000:
            assert (await sent(library, place, 0, breaks_off())).status_code == 503
            assert await came(library, place) == len(content) // 2
            assert (await sent(library, place, 1, b"x" * 2000)).status_code == 409
            assert (await sent(library, place, len(content) // 2, b"x" * 10)).status_code == 400
        offset = await came(library, place)
        assert (await sent(library, place, offset, content[offset:])).status_code == 204
        assert await came(library, place) == len(content)
    assert await quota(library) == (0, total)
    parts = [("upload", (None, each)) for each in ids] + [("name", (None, "style"))]
    status, made = await library.alice.call("POST", "/api/loras/upload", files=parts)
    assert status == 201, made
    answer = await library.client.get(f"{made['url']}/files/adapter_model.safetensors", headers=HEADERS)
    assert answer.content == (adapter / "adapter_model.safetensors").read_bytes()
    assert await quota(library) == (total, 0), "what it was made of counts no more"
    await library.parts.sweeper.sweep()
    assert not [key for key in library.stored if key.startswith("partials/")]
    assert (await library.client.head(f"/api/loras/uploads/{ids[0]}", headers=HEADERS)).status_code == 404


async def test_what_is_begun_takes_its_room_and_is_swept_after_a_day(tmp_path: Path) -> None:
    async with served(tmp_path, quota_bytes=1000) as library:
        place = (await begun(library, 600)).headers["Location"]
        answer = await begun(library, 600)
        assert (answer.status_code, answer.json()["code"], answer.json()["available"]) == (413, "QUOTA_EXCEEDED", 400)
        assert (await sent(library, place, 0, b"x" * 600)).status_code == 204
        assert (await sent(library, place, 600, b"x")).status_code == 413
        bob = HEADERS | {"Authorization": "Bearer token-of-bob"}
        for method in ("HEAD", "DELETE"):
            assert (await library.client.request(method, place, headers=bob)).status_code == 404
        sweeper = library.parts.sweeper
        sweeper._clock = lambda: time.time() + 90_000
        await sweeper.sweep()
        assert not [key for key in library.stored if key.startswith("partials/")]
        assert await quota(library) == (0, 0)
        assert (await library.client.head(place, headers=HEADERS)).status_code == 404
        place = (await begun(library, 600)).headers["Location"]
        assert (await library.client.delete(place, headers=HEADERS)).status_code == 204
        assert await quota(library) == (0, 0)


@pytest.mark.parametrize("length", ["", "-1", "9" * 30, "1e3", "٣"])
async def test_a_length_that_is_none_is_refused(library: Running, length: str) -> None:
    headers = [(name.encode(), value.encode()) for name, value in (HEADERS | {"Upload-Length": length}).items()]
    assert (await library.client.post("/api/loras/uploads", headers=headers)).status_code == 400
    assert (await begun(library, 3 << 30)).status_code == 413
    assert (await library.client.options("/api/loras/uploads")).headers["Tus-Version"] == "1.0.0"
