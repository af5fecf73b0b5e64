"""What somebody with a good token may try against the library and its other users."""

from __future__ import annotations

import asyncio
import io
import json
import struct
import tarfile
import zipfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest

from e2e.world.adapters import write_adapter
from lora_library import uploads
from lora_library.cluster.adapters import Adapters
from lora_library.names import resource_name
from lora_operator.kube.client import Kube
from tests.library.conftest import Running, served


def a_tar(adapter: Path, **extra: str) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz", format=tarfile.PAX_FORMAT) as archive:
        for each in sorted(adapter.iterdir()):
            archive.add(each, each.name)
        odd = tarfile.TarInfo("odd")
        odd.size = 512
        odd.pax_headers = extra
        archive.addfile(odd, io.BytesIO(b"0\n".ljust(512, b"\0")))
    return out.getvalue()


@pytest.mark.parametrize(
    "extra", [{"comment": "x" * (2 << 20)}, {"GNU.sparse.major": "1", "GNU.sparse.minor": "0"}], ids=["long", "sparse"]
)
async def test_a_tar_cannot_have_headers_that_fill_the_memory(
    library: Running, tmp_path: Path, extra: dict[str, str]
) -> None:
    adapter = write_adapter(tmp_path / "adapter", base_model="tiny")
    for headers, wanted in ({"comment": "mine"}, 201), (extra, 400):
        files = {"file": ("a.tar.gz", a_tar(adapter, **headers))}
        status, body = await library.alice.call("POST", "/api/loras/upload", files=files, data={"name": "a"})
        assert status == wanted, body
    assert body["code"] == "INVALID_FILE_FORMAT"


async def test_the_directory_of_a_zip_is_measured_where_it_is_read(library: Running, tmp_path: Path) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for each in write_adapter(tmp_path / "adapter", base_model="tiny").iterdir():
            archive.write(each, each.name)
    whole = out.getvalue()
    rest, end = whole[:-22], whole[-22:]
    size, offset = struct.unpack("<LL", end[12:20])
    record = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, 1_000_000, 1_000_000, size, offset)
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, len(rest), 1)
    files = {"file": ("a.zip", rest + record + locator + end)}
    status, body = await library.alice.call("POST", "/api/loras/upload", files=files, data={"name": "a"})
    assert (status, body["code"]) == (400, "INVALID_FILE_FORMAT")


async def test_bytes_that_are_purged_while_they_come_again_are_stored_again(
    library: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter = write_adapter(tmp_path / "adapter", base_model="tiny")
    _, first = await library.alice.upload(adapter, "first")
    known = uploads.known_object

    async def then_purged(*given: Any) -> bool:
        found = await known(*given)
        await library.alice.call("DELETE", first["url"], params={"purge": True})
        return found

    monkeypatch.setattr(uploads, "known_object", then_purged)
    status, second = await library.alice.upload(adapter, "second")
    assert status == 201
    status, _ = await library.alice.call("GET", f"{second['url']}/files/adapter_config.json")
    assert status == 200
    assert [key for key in library.stored if key.startswith("published/") and key.endswith("/adapter_config.json")]


async def test_a_body_of_no_said_length_takes_no_more_room_than_the_quota_has(tmp_path: Path) -> None:
    sent = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal sent
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.safetensors"\r\n\r\n'
        for _ in range(48):
            sent += 1 << 20
            yield bytes(1 << 20)
        yield b"\r\n--x--\r\n"

    async with served(tmp_path, quota_bytes=1 << 20) as library:
        answer = await library.client.post(
            "/api/loras/upload",
            content=body(),
            headers={"Authorization": "Bearer token-of-alice", "Content-Type": "multipart/form-data; boundary=x"},
        )
        assert (answer.status_code, answer.json()["code"]) == (413, "QUOTA_EXCEEDED")
        assert sent <= 12 << 20


class CountedKube:
    asked = 0

    async def call(self, *_: Any, **__: Any) -> dict[str, Any]:
        self.asked += 1
        await asyncio.sleep(0)
        return {"status": {}}


async def test_a_long_list_asks_the_api_server_once_for_each_lora_adapter() -> None:
    kube = CountedKube()
    adapters = Adapters(cast(Kube, kube), "models")
    found = await asyncio.gather(*(adapters.get(f"library-{n % 2}") for n in range(500)))
    assert (kube.asked, len(found)) == (2, 500)


class ListingKube:
    async def call(self, *_: Any, **__: Any) -> dict[str, Any]:
        names = (resource_name("alice", "tiny", 0), resource_name("bob", "tiny", 0), "theirs", "library-of-theirs")
        return {"items": [{"metadata": {"name": name}} for name in names]}


async def test_a_lora_adapter_of_somebody_else_with_our_labels_is_not_ours_to_delete() -> None:
    adapters = Adapters(cast(Kube, ListingKube()), "models")
    assert await adapters.names_of("alice") == {resource_name("alice", "tiny", 0)}


async def test_uploading_and_deleting_without_end_leaves_no_rows_without_end(tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path / "adapter", base_model="tiny")
    async with served(tmp_path, quota_adapters=2) as library:
        made = []
        for n in range(5):
            _, body = await library.alice.upload(adapter, f"a{n}")
            made.append(body["url"])
            assert (await library.alice.call("DELETE", body["url"]))[0] == 204
        _, page = await library.alice.call("GET", "/api/loras", params={"deleted": True})
        assert {each["url"] for each in page["loras"]} == set(made[-2:])
        assert len([key for key in library.stored if key.startswith("objects/")]) == 3
        assert (await library.alice.call("POST", f"{made[-2]}/restore"))[0] == 200


async def test_half_a_character_in_the_files_breaks_no_answer(library: Running, tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path / "adapter", base_model="tiny")
    config = adapter / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"base_model_name_or_path": "tiny\ud800"}))
    status, made = await library.alice.upload(adapter, "a", base_model="tiny")
    if status == 201:
        status, _ = await library.alice.call("GET", made["url"])
    assert status in (200, 400)
    weights = adapter / "adapter_model.safetensors"
    raw = weights.read_bytes()
    size = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + size]) | {"__metadata__": {"trigger_words": "\ud800", "ss_\udfff": "\ud800"}}
    written = json.dumps(header).encode()
    weights.write_bytes(len(written).to_bytes(8, "little") + written + raw[8 + size :])
    config.write_text(config.read_text().replace("\\ud800", ""))
    status, made = await library.alice.upload(adapter, "b", base_model="tiny")
    if status == 201:
        status, _ = await library.alice.call("GET", made["url"])
    assert status in (200, 400), made


async def test_uploads_do_not_fill_the_disk_neither_as_they_come_nor_unpacked(tmp_path: Path) -> None:
    adapter = write_adapter(tmp_path / "adapter", base_model="tiny")
    weights = (adapter / "adapter_model.safetensors").stat().st_size
    packed = {"file": ("a.tar.gz", a_tar(adapter))}
    size = len(packed["file"][1])
    for most, sent, wanted in (
        (weights // 2, "files", 429), (size + weights // 2, "archive", 429), (size + 4 * weights, "archive", 201),
        (size + 4 * weights, "files", 201),
    ):  # fmt: skip
        (tmp_path / f"{most}-{sent}").mkdir()
        async with served(tmp_path / f"{most}-{sent}", work_bytes=most * 20 // 19 + 1) as library:
            for _ in range(6):  # what ended takes nothing
                if sent == "files":
                    status, _ = await library.alice.upload(adapter, "a")
                else:
                    status, _ = await library.alice.call("POST", "/api/loras/upload", files=packed)
                assert status == wanted, (most, sent)


async def test_metadata_that_is_nested_deeper_than_an_answer_can_be_is_refused(
    library: Running, tmp_path: Path
) -> None:
    adapter = write_adapter(tmp_path / "adapter", base_model="tiny")
    for depth, wanted in ((32, 201), (300, 400), (950, 400)):
        nested = '{"a":' * depth + "1" + "}" * depth
        status, made = await library.alice.upload(adapter, f"a{depth}", metadata=nested)
        assert status == wanted, made
        if status == 201:
            assert (await library.alice.call("GET", made["url"]))[0] == 200
