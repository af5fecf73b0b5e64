"""Adapters in archives on a web server: read through once, and only as far as that is safe."""

from __future__ import annotations

import gzip
import hashlib
import io
import struct
import tarfile
import zipfile
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from e2e.stores.proxy import Fault
from e2e.stores.web import WebStore
from lora_operator.fetch.limits import Limits
from lora_operator.sources import Credentials, Resolution, SourceError
from lora_operator.sources.http import HttpSource
from lora_operator.sources.http_client import Patience
from tests.sources.adapter_bytes import CONFIG, WEIGHTS, a_request, adapter

TOKEN = "aTokenThatNobodyMaySee"
OWN = Credentials((("token", TOKEN),))
SHORT = Patience(connect_seconds=2.0, idle_seconds=0.2, total_seconds=0.5)
KINDS = (".tar", ".tar.gz", ".tgz", ".zip")


def packed(kind: str, files: Mapping[str, bytes]) -> bytes:
    target = io.BytesIO()
    if kind == ".zip":
        with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
            for path, content in files.items():
                archive.writestr(path, content)
    else:
        with tarfile.open(fileobj=target, mode="w" if kind == ".tar" else "w:gz") as tar:
            for path, content in files.items():
                info = tarfile.TarInfo(path)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return target.getvalue()


@pytest.fixture
async def store() -> AsyncIterator[WebStore]:
    async with WebStore({}) as store:
        yield store


async def resolved(
    store: WebStore, path: str, previous: Resolution | None = None, *, limits: Limits | None = None, **changes: Any
) -> Resolution:
    source = HttpSource(patience=SHORT if store.always.stall_after is not None else None, limits=limits)
    return await source.resolve(a_request("http", store.url(path), **changes), previous)


async def broken(store: WebStore, path: str, **changes: Any) -> list[tuple[str, str]]:
    """(name, reason) of what is broken."""
    return [(item.name, item.reason) for item in (await resolved(store, path, **changes)).broken]


@pytest.mark.parametrize("kind", KINDS)
async def test_finds_the_adapter_at_the_top_and_those_in_folders(store: WebStore, kind: str) -> None:
    store.files[f"/my-lora{kind}"] = packed(kind, adapter())
    store.files[f"/both{kind}"] = packed(kind, adapter("./a") | adapter("deep/b", seed=1) | {"README.md": b"x" * 9999})
    (found,) = (await resolved(store, f"/my-lora{kind}")).adapters
    assert (found.name, found.inspection.rank) == ("my-lora", 4)
    assert found.files[1].sha256 == hashlib.sha256(adapter()[WEIGHTS]).hexdigest()
    both = await resolved(store, f"/both{kind}")
    assert [(each.name, each.location) for each in both.adapters] == [("a", "a"), ("b", "deep/b")]
    # wherever it is packed, and in whichever way, it is the same version
    assert both.adapters[0].fingerprint == found.fingerprint


@pytest.mark.parametrize("kind", KINDS)
async def test_looks_once_at_an_archive_that_stays_the_same(store: WebStore, kind: str) -> None:
    store.files[f"/a{kind}"] = packed(kind, adapter())
    first = await resolved(store, f"/a{kind}")
    store.requests.clear()
    assert await resolved(store, f"/a{kind}", first) is first
    assert [asked.method for asked in store.requests] == ["HEAD"]


@pytest.mark.parametrize("kind", KINDS)
async def test_orders_the_archive_with_the_digests_of_its_members(store: WebStore, kind: str) -> None:
    path = f"/a{kind}"
    store.token = TOKEN
    store.files[path] = packed(kind, adapter("x"))
    (found,) = (await resolved(store, path, credentials=OWN)).adapters
    request = a_request("http", store.url(path), credentials=OWN)
    order = await HttpSource().locate(request, found)
    assert order.archive is not None
    assert (order.archive.folder, order.archive.link.tag) == ("x", store.tag(path))
    assert order.shows_secret
    assert order.archive.kind == {".tgz": "tar.gz"}.get(kind, kind[1:])
    assert [file.sha256 for file in order.files] == [
        hashlib.sha256(adapter()[each]).hexdigest() for each in (CONFIG, WEIGHTS)
    ]
    assert TOKEN not in repr(order)
    store.files[path] = packed(kind, adapter("x", seed=1))
    store._tags.clear()
    with pytest.raises(SourceError) as caught:
        await HttpSource().locate(request, found)
    assert caught.value.reason == "SourceChanged"


@pytest.mark.parametrize("kind", KINDS)
async def test_keeps_the_good_version_while_the_archive_is_damaged(store: WebStore, kind: str) -> None:
    path = f"/a{kind}"
    store.files[path] = whole = packed(kind, adapter())
    first = await resolved(store, path)
    store.files[path] = whole[: len(whole) // 4]
    store._tags.clear()
    second = await resolved(store, path, first)
    assert second.adapters == first.adapters
    assert [item.reason for item in second.stale] == ["ArchiveInvalid"]
    store.requests.clear()
    assert await resolved(store, path, second) is second  # it is not read again before it changes
    assert [asked.method for asked in store.requests] == ["HEAD"]


async def test_a_download_that_breaks_off_is_no_damaged_archive(store: WebStore) -> None:
    store.files["/a.tar"] = packed(".tar", adapter())
    store.always = Fault(cut_after=3000)
    with pytest.raises(SourceError) as caught:
        await resolved(store, "/a.tar")
    assert (caught.value.reason, caught.value.retryable) == ("ConnectionLost", True)
    store.always = Fault(stall_after=3000)
    with pytest.raises(SourceError) as caught:
        await resolved(store, "/a.tar")
    assert (caught.value.reason, caught.value.retryable) == ("Stalled", True)


async def test_reads_tars_from_servers_without_ranges_and_says_that_zips_need_them(store: WebStore) -> None:
    store.always = Fault(ranges=False)
    store.files["/a.tar.gz"] = packed(".tar.gz", adapter())
    store.files["/a.zip"] = packed(".zip", adapter())
    assert (await resolved(store, "/a.tar.gz")).adapters
    with pytest.raises(SourceError) as caught:
        await resolved(store, "/a.zip")
    assert (caught.value.reason, caught.value.retryable) == ("RangesNeeded", False)


def a_tar_with(member: tarfile.TarInfo, content: bytes = b"") -> bytes:
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w") as tar:
        tar.addfile(member, io.BytesIO(content))
    return target.getvalue()


def a_link(kind: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo(f"x/{CONFIG}")
    info.type, info.linkname = kind, "/etc/passwd"
    return info


def an_unsafe_name(name: str) -> tarfile.TarInfo:
    return tarfile.TarInfo(name)


UNSAFE = {
    "symbolic link": a_link(tarfile.SYMTYPE),
    "hard link": a_link(tarfile.LNKTYPE),
    "device": a_link(tarfile.CHRTYPE),
    "leads out": an_unsafe_name(f"../{CONFIG}"),
    "absolute": an_unsafe_name(f"/etc/{CONFIG}"),
}


@pytest.mark.parametrize("name", UNSAFE)
async def test_refuses_archives_that_are_a_trick(store: WebStore, name: str) -> None:
    store.files["/a.tar"] = a_tar_with(UNSAFE[name])
    assert await broken(store, "/a.tar") == [("a", "ArchiveUnsafe")]


async def test_refuses_two_adapters_of_one_name(store: WebStore) -> None:
    store.files["/a.zip"] = packed(".zip", adapter("x/l") | adapter("y/l"))
    assert await broken(store, "/a.zip") == [("l", "DuplicateName")]


async def test_refuses_an_archive_without_an_adapter(store: WebStore) -> None:
    store.files["/a.tar"] = packed(".tar", {"README.md": b"nothing here"})
    assert await broken(store, "/a.tar") == [("a", "NoAdapterHere")]


@pytest.mark.parametrize("kind", KINDS)
async def test_refuses_what_is_none_of_its_kind(store: WebStore, kind: str) -> None:
    store.files[f"/a{kind}"] = b"<html>" * 1000
    assert await broken(store, f"/a{kind}") == [("a", "ArchiveInvalid")]


@pytest.mark.parametrize("kind", [".tar.gz", ".zip"])
async def test_refuses_a_bomb_before_it_is_unpacked(
    store: WebStore, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lora_operator.sources.http_archive_members.RATIO_FREE_BYTES", 1 << 20)
    store.files[f"/a{kind}"] = packed(kind, {WEIGHTS: bytes(8 << 20)})
    assert await broken(store, f"/a{kind}", limits=Limits(unpacked_ratio=10)) == [("a", "ArchiveTooLarge")]


@pytest.mark.parametrize("kind", [".tar", ".zip"])
async def test_refuses_more_members_than_a_fetch_would_take(store: WebStore, kind: str) -> None:
    store.files[f"/a{kind}"] = packed(kind, {f"f{number}": b"" for number in range(20)})
    assert await broken(store, f"/a{kind}", limits=Limits(members=10)) == [("a", "ArchiveTooLarge")]


async def test_holds_no_long_header_in_memory(store: WebStore) -> None:
    long_name = tarfile.TarInfo("././@LongLink")
    long_name.type, long_name.size = tarfile.GNUTYPE_LONGNAME, 6 << 20
    store.files["/a.tar.gz"] = gzip.compress(a_tar_with(long_name, bytes(6 << 20)), 1)
    assert await broken(store, "/a.tar.gz") == [("a", "ArchiveTooLarge")]


async def test_reads_no_directory_of_a_zip_that_is_too_long(store: WebStore) -> None:
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, 6 << 20, 100, 0)
    store.files["/a.zip"] = bytes(100 + (6 << 20)) + end
    assert await broken(store, "/a.zip") == [("a", "ArchiveTooLarge")]


async def test_refuses_an_archive_that_is_too_large_before_reading_it(store: WebStore) -> None:
    store.files["/a.tar"] = packed(".tar", adapter())
    store.always = Fault(announced=2 << 40)
    with pytest.raises(SourceError) as caught:
        await resolved(store, "/a.tar")
    assert (caught.value.reason, caught.value.retryable) == ("TooLarge", False)
    assert {asked.method for asked in store.requests} == {"HEAD"}


async def test_says_that_there_is_no_archive(store: WebStore) -> None:
    with pytest.raises(SourceError) as caught:
        await resolved(store, "/a.tar")
    assert caught.value.reason == "NotFound"


async def test_names_what_is_wrong_with_an_adapter_in_it(store: WebStore) -> None:
    torn = adapter("torn")
    torn[f"torn/{WEIGHTS}"] = torn[f"torn/{WEIGHTS}"][:-10]
    store.files["/a.tar.gz"] = packed(
        ".tar.gz", adapter("good") | torn | {"pickle/adapter_model.bin": b"x"} | {f"pickle/{CONFIG}": adapter()[CONFIG]}
    )
    resolution = await resolved(store, "/a.tar.gz")
    assert [found.name for found in resolution.adapters] == ["good"]
    assert [(item.name, item.reason) for item in resolution.broken] == [
        ("pickle", "PickleRefused"),
        ("torn", "FileTruncated"),
    ]
