"""Adapters in archives, good ones and those that somebody made to do harm."""

from __future__ import annotations

import gzip
import io
import os
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import replace

import pytest

from e2e.stores.proxy import Fault
from lora_operator.artifacts import CONFIG_FILE, WEIGHTS_FILE
from lora_operator.fetch.fetcher import ARCHIVE_FILE
from lora_operator.fetch.manifest import Archive, FetchManifest, Link
from tests.fetch.ordered import LIMITS, SECRET, STALL_SECONDS, Case, an_archive_order

KINDS = ("tar", "tar.gz", "zip")
Members = Mapping[str, bytes]


def packed(kind: str, members: Members) -> bytes:
    """An archive of plain files."""
    out = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in members.items():
                archive.writestr(name, data)
        return out.getvalue()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data in members.items():
            add(tar, name, data)
    return gzip.compress(out.getvalue()) if kind == "tar.gz" else out.getvalue()


def add(tar: tarfile.TarFile, name: str, data: bytes = b"", **changes: object) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for key, value in changes.items():
        setattr(info, key, value)
    tar.addfile(info, io.BytesIO(data))


def tar_of(write: Callable[[tarfile.TarFile], None]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        write(tar)
    return out.getvalue()


def serve(case: Case, kind: str, data: bytes, folder: str = "", *, size_bytes: int | None = None) -> FetchManifest:
    case.store.files = {"/archive": data}
    link = Link(case.store.url("/archive", sig=SECRET), tag=case.store.tag("/archive"))
    return an_archive_order(case.files, Archive(link, kind, folder, size_bytes))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("folder", ["", "adapters/alpaca"])
async def test_takes_the_adapter_out_of_an_archive(case: Case, kind: str, folder: str) -> None:
    prefix = f"{folder}/" if folder else ""
    members = {"README.md": b"x", **{f"{prefix}{name}": data for name, data in case.files.items()}, "b/other": b"y"}
    order = serve(case, kind, packed(kind, members), folder)
    told: list[int] = []
    files = await case.fetch(order, report=told.append)
    assert case.whole
    assert all(file.sha256 for file in files)
    assert told[-1] == order.size_bytes


@pytest.mark.parametrize("kind", KINDS)
async def test_takes_an_archive_up_again_after_a_break(case: Case, kind: str) -> None:
    data = packed(kind, {**case.files, "random": os.urandom(20_000)})
    order = serve(case, kind, data, size_bytes=len(data))
    case.store.script.extend([Fault(stall_after=len(data) // 2), Fault(status=404)])
    case.limits = replace(LIMITS, stall_seconds=STALL_SECONDS)
    await case.failure(order)
    case.store.sent_bytes = 0
    await case.fetch(order)
    assert case.whole
    assert case.store.sent_bytes < len(data)


@pytest.mark.parametrize("always", [Fault(ranges=False), Fault(ranges=False, chunked=True)], ids=["told", "untold"])
async def test_takes_an_archive_from_a_server_without_ranges(case: Case, always: Fault) -> None:
    order = serve(case, "tar", packed("tar", case.files))
    case.store.always = always
    await case.fetch(order)
    assert case.whole


@pytest.mark.parametrize("kind", KINDS)
async def test_names_with_dots_and_slashes_are_the_same_names(case: Case, kind: str) -> None:
    order = serve(case, kind, packed(kind, {f"./a//{name}": data for name, data in case.files.items()}), "a")
    await case.fetch(order)
    assert case.whole


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("evil", ["../", "/", "a/../", "../../etc/", "a\\"])
async def test_what_climbs_is_never_unpacked(case: Case, kind: str, evil: str) -> None:
    before = sorted(case.into.parent.rglob("*"))
    order = serve(case, kind, packed(kind, {f"{evil}{name}": data for name, data in case.files.items()}))
    assert (await case.failure(order)).reason == "NotFound"
    assert [path for path in sorted(case.into.parent.rglob("*")) if path.parent != case.into] == before


UNSAFE: dict[str, dict[str, object]] = {
    "a link": {"type": tarfile.SYMTYPE, "linkname": "/etc/passwd"},
    "a hard link": {"type": tarfile.LNKTYPE, "linkname": "/etc/passwd"},
    "a device": {"type": tarfile.CHRTYPE, "devmajor": 1, "devminor": 5},
    "a pipe": {"type": tarfile.FIFOTYPE},
    "a folder": {"type": tarfile.DIRTYPE},
}


@pytest.mark.parametrize("what", UNSAFE.values(), ids=UNSAFE)
async def test_a_tar_with_something_else_under_a_wanted_name_is_refused(case: Case, what: dict[str, object]) -> None:
    order = serve(case, "tar", tar_of(lambda tar: add(tar, CONFIG_FILE, **what)))
    error = await case.failure(order)
    assert (error.reason, error.retryable) == ("ArchiveUnsafe", False)


async def test_a_zip_with_a_link_under_a_wanted_name_is_refused(case: Case) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        info = zipfile.ZipInfo(CONFIG_FILE)
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
    assert (await case.failure(serve(case, "zip", out.getvalue()))).reason == "ArchiveUnsafe"


async def test_an_encrypted_zip_is_refused(case: Case) -> None:
    data = bytearray(packed("zip", case.files))
    at = data.find(b"PK\x01\x02")
    data[at + 8] |= 1
    assert (await case.failure(serve(case, "zip", bytes(data)))).reason == "ArchiveUnsafe"


BOMBS: dict[str, tuple[str, Callable[[], bytes]]] = {
    "a tar.gz that unpacks for ever": (
        "tar.gz", lambda: gzip.compress(tar_of(lambda tar: add(tar, "x", bytes(17 << 20))))),
    "a tar with a header of 9 MiB": (
        "tar", lambda: tar_of(lambda tar: add(tar, "x", pax_headers={"comment": "x" * (9 << 20)}))),
    "a tar with many members": ("tar", lambda: packed("tar", {f"{number}": b"" for number in range(300)})),
    "a zip with many members": ("zip", lambda: packed("zip", {f"{number}": b"" for number in range(300)})),
    "a zip that says it has many members": (
        "zip", lambda: b"PK\x05\x06" + struct.pack("<HHHHLLH", 0, 0, 60_000, 60_000, 0, 0, 0)),
    "a zip that says it has a directory of 1 GiB": (
        "zip", lambda: b"PK\x05\x06" + struct.pack("<HHHHLLH", 0, 0, 9, 9, 1 << 30, 0, 0)),
}  # fmt: skip


@pytest.mark.parametrize(("kind", "make"), BOMBS.values(), ids=BOMBS)
async def test_bombs_are_refused(case: Case, kind: str, make: Callable[[], bytes]) -> None:
    case.limits = replace(LIMITS, members=200, unpacked_bytes=16 << 20, block_bytes=1 << 20)
    error = await case.failure(serve(case, kind, make()))
    assert (error.reason, error.retryable) == ("ArchiveTooLarge", False)


async def test_a_zip_that_shows_one_directory_and_has_another_is_refused(case: Case) -> None:
    small, large = (struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, 9, 9, size, 0) for size in (99, 1 << 30))
    locator = struct.pack("<4sLQL", b"PK\6\7", 0, 0, 1)
    data = small + large + locator + b"PK\x05\x06" + struct.pack("<HHHHLLH", 0, 0, 9, 9, 99, 0, 0)
    error = await case.failure(serve(case, "zip", data))
    assert error.reason in ("ArchiveTooLarge", "ArchiveInvalid")  # newer Pythons refuse it themselves
    assert error.reason == "ArchiveTooLarge" or zipfile_refuses(data)


def zipfile_refuses(data: bytes) -> bool:
    try:
        return zipfile._EndRecData(io.BytesIO(data)) is None  # type: ignore[attr-defined]
    except zipfile.BadZipFile:
        return True


async def test_an_archive_that_unpacks_to_far_more_than_it_is_gets_refused(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lora_operator.fetch.archive.RATIO_FREE_BYTES", 1 << 20)
    data = gzip.compress(tar_of(lambda tar: add(tar, "x", bytes(8 << 20))))
    case.limits = replace(LIMITS, unpacked_ratio=100)
    assert (await case.failure(serve(case, "tar.gz", data))).reason == "ArchiveTooLarge"


@pytest.mark.parametrize("kind", KINDS)
async def test_a_member_of_another_size_or_content_is_refused(case: Case, kind: str) -> None:
    longer = {**case.files, WEIGHTS_FILE: case.files[WEIGHTS_FILE] + b"x"}
    assert (await case.failure(serve(case, kind, packed(kind, longer)))).reason == "SizeMismatch"
    data = bytearray(case.files[WEIGHTS_FILE])
    data[-1] ^= 1
    changed = {**case.files, WEIGHTS_FILE: bytes(data)}
    assert (await case.failure(serve(case, kind, packed(kind, changed)))).reason == "DigestMismatch"


@pytest.mark.parametrize("kind", KINDS)
async def test_an_archive_without_the_adapter_says_so(case: Case, kind: str) -> None:
    error = await case.failure(serve(case, kind, packed(kind, {CONFIG_FILE: case.files[CONFIG_FILE], "x": b"y"})))
    assert (error.reason, error.retryable) == ("NotFound", False)
    assert WEIGHTS_FILE in error.message


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("spoil", ["garbage", "half", "middle"])
async def test_a_damaged_archive_is_refused(case: Case, kind: str, spoil: str) -> None:
    good = packed(kind, case.files)
    data = {
        "garbage": os.urandom(4000),
        "half": good[: len(good) // 2],
        "middle": good[: len(good) // 2] + bytes(2000) + good[len(good) // 2 + 2000 :],
    }[spoil]
    error = await case.failure(serve(case, kind, data))
    assert error.reason in ("ArchiveInvalid", "NotFound", "DigestMismatch", "HeaderInvalid", "NotFinite")
    assert not error.retryable or error.reason == "DigestMismatch"


async def test_an_archive_that_is_too_large_is_refused_before_it_is_fetched(case: Case) -> None:
    case.limits = replace(LIMITS, archive_bytes=10_000)
    order = serve(case, "tar", packed("tar", case.files))
    error = await case.failure(order)
    assert (error.reason, error.retryable) == ("TooLarge", False)
    assert (case.into / ARCHIVE_FILE).stat().st_size == 0
    case.store.always = Fault(ranges=False, chunked=True)
    assert (await case.failure(order)).reason == "TooLarge"


async def test_no_failure_of_an_archive_shows_its_link(case: Case) -> None:
    order = serve(case, "zip", b"garbage")
    error: BaseException | None = await case.failure(order)
    while error is not None:
        assert SECRET not in f"{error!r} {error}"
        error = error.__cause__ or error.__context__
