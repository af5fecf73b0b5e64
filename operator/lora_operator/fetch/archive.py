"""Takes an adapter's files out of an archive that anybody may have made: only them, as plain bytes, and bounded."""

from __future__ import annotations

import gzip
import io
import os
import struct
import tarfile
import threading
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, BinaryIO, NoReturn

from lora_operator.artifacts import AdapterFile
from lora_operator.fetch.errors import FetchError
from lora_operator.fetch.limits import Limits
from lora_operator.fetch.manifest import FetchFile, FetchManifest
from lora_operator.fetch.partial import Mark, PartialFile
from lora_operator.fetch.proof import BadContent, FileProof

BLOCK_BYTES = 1 << 20
# What is believed before the ratio of unpacked to packed bytes says "bomb".
RATIO_FREE_BYTES = 64 << 20
DIRECTORY_BYTES_MAX = 32 << 20
_ZIP_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


def unpack(
    order: FetchManifest, descriptor: int, into: Path, limits: Limits, stopped: threading.Event
) -> list[AdapterFile]:
    """Write the files of `order` that have neither link nor inline bytes into `into`, out of the whole archive at
    `descriptor`. Blocking; ends soon, with a FetchError, when `stopped`. Raises FetchError, and OSError of
    the disk.
    """
    archive = order.archive
    assert archive is not None
    wanted = {
        _member(archive.folder, file.path): file for file in order.files if file.inline is None and file.link is None
    }
    what = f"the archive of {order.name}"
    problem: FetchError | None = None
    found: list[AdapterFile] = []
    try:
        with os.fdopen(os.dup(descriptor), "rb") as packed:
            packed.seek(0)
            members = _zip_members if archive.kind == "zip" else _tar_members
            for name, size, stream in members(what, packed, archive.kind, frozenset(wanted), limits):
                file = wanted.pop(name)
                found.append(_write(order, file, size, stream, into, stopped))
                if not wanted:
                    break
    except (
        tarfile.TarError,
        zipfile.BadZipFile,
        zlib.error,
        EOFError,
        gzip.BadGzipFile,
        ValueError,
        RuntimeError,
        NotImplementedError,
        struct.error,
    ):
        problem = BadContent(
            "ArchiveInvalid", f"{what} is damaged or is no {archive.kind}: pack it again", retryable=False
        )
    if problem is not None:
        raise problem
    if wanted:
        raise FetchError(
            "NotFound",
            f"{what} has no {', '.join(sorted(wanted))[:300]} any more: pack it again, or correct the source",
            retryable=False,
        )
    return found


def _member(folder: str, path: str) -> str:
    return f"{folder.strip('/')}/{path}".lstrip("/")


def _plain(name: str) -> str:
    """`./a/b` and `a//b` are `a/b`. What climbs or starts at the root stays so, and is never a wanted name."""
    absolute = name.startswith("/")
    return ("/" if absolute else "") + "/".join(part for part in name.split("/") if part not in ("", "."))


def _write(
    order: FetchManifest, file: FetchFile, size: int, stream: IO[bytes], into: Path, stopped: threading.Event
) -> AdapterFile:
    what = f"{file.path} in the archive of {order.name}"
    if size != file.size_bytes:
        raise BadContent(
            "SizeMismatch",
            f"{what} has {size} bytes where {file.size_bytes} were expected: it is read again, or pack it again",
            retryable=True,
        )
    partial = PartialFile(into / file.path, Mark(None))
    try:
        proof = FileProof(order.name, file, partial.descriptor)
        place = 0
        while place < size and not stopped.is_set() and (block := stream.read(min(BLOCK_BYTES, size - place))):
            partial.append(block)
            place += len(block)
            proof.advance(place)
        if place < size:
            raise EOFError
        return AdapterFile(file.path, size, proof.finish())
    finally:
        partial.close()


Members = Iterator[tuple[str, int, IO[bytes]]]


def _tar_members(what: str, packed: BinaryIO, kind: str, wanted: frozenset[str], limits: Limits) -> Members:
    size = os.fstat(packed.fileno()).st_size
    unpacked: BinaryIO = packed if kind == "tar" else gzip.GzipFile(fileobj=packed, mode="rb")  # type: ignore[assignment]
    guarded = _Guarded(what, unpacked, size, limits)
    # headers in the archive's own encoding of names; errors there concern names that nobody wants
    with tarfile.open(fileobj=guarded, mode="r:", errorlevel=1) as tar:
        for number, member in enumerate(tar):
            _bound(what, number, limits)
            tar.members.clear()  # type: ignore[attr-defined] # else it remembers every one
            name = _plain(member.name)
            if name not in wanted:
                continue
            if not member.isreg() or member.issparse():
                _unsafe(what, name)
            stream = tar.extractfile(member)
            assert stream is not None
            yield name, member.size, stream
            wanted -= {name}


def _zip_members(what: str, packed: BinaryIO, kind: str, wanted: frozenset[str], limits: Limits) -> Members:
    _check_directory(what, packed, limits)
    with zipfile.ZipFile(packed) as archive:
        infos = archive.infolist()
        _bound(what, len(infos), limits)
        for info in infos:
            name = _plain(info.filename)
            if name not in wanted:
                continue
            unix_type = info.external_attr >> 28
            if info.is_dir() or unix_type not in (0, 8) or info.flag_bits & 1 or info.compress_type not in _ZIP_METHODS:
                _unsafe(what, name)
            with archive.open(info) as stream:
                yield name, info.file_size, stream
            wanted -= {name}


def _check_directory(what: str, packed: BinaryIO, limits: Limits) -> None:
    """A zip's directory is read into memory as a whole: look at its announced size before that, where the library
    finds it; a second look of our own could be shown another one."""
    end = zipfile._EndRecData(packed)  # type: ignore[attr-defined]
    if end is None:
        raise zipfile.BadZipFile
    _bound(what, end[zipfile._ECD_ENTRIES_TOTAL], limits)  # type: ignore[attr-defined]
    length = end[zipfile._ECD_SIZE]  # type: ignore[attr-defined]
    if length > DIRECTORY_BYTES_MAX:
        raise _too_large(what, f"a directory of {length} bytes")
    packed.seek(0)


class _Guarded(io.RawIOBase):
    """What a tar is read through: refuses to unpack without end, and to hold large pieces in memory."""

    def __init__(self, what: str, inner: BinaryIO, packed_bytes: int, limits: Limits) -> None:
        super().__init__()
        self._what = what
        self._inner = inner
        self._end = min(limits.unpacked_bytes, RATIO_FREE_BYTES + packed_bytes * limits.unpacked_ratio)

    def read(self, size: int = -1, /) -> bytes:
        if size < 0 or size > 4 * BLOCK_BYTES:
            raise _too_large(self._what, f"a header of {size} bytes")
        self._bound(self._inner.tell() + size)
        return self._inner.read(size)

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        if whence == os.SEEK_SET:
            self._bound(offset)
        return self._inner.seek(offset, whence)

    def tell(self) -> int:
        return self._inner.tell()

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def _bound(self, place: int) -> None:
        if place > self._end:
            raise _too_large(self._what, f"more than {self._end} bytes when unpacked")


def _bound(what: str, count: int, limits: Limits) -> None:
    if count > limits.members:
        raise _too_large(what, f"more than {limits.members} members")


def _too_large(what: str, found: str) -> FetchError:
    return FetchError(
        "ArchiveTooLarge",
        f"{what} has {found}: pack only the adapters, or raise the limit in the settings",
        retryable=False,
    )


def _unsafe(what: str, name: str) -> NoReturn:
    raise FetchError(
        "ArchiveUnsafe",
        f"{what} has {name[:200]} as something else than a plain file (a link, a device, encrypted or packed in an "
        "unusual way): pack the file itself, stored or deflated",
        retryable=False,
    )
