"""Goes through an archive once and notes what inspection needs: names, configs, headers of weights, and digests.

Nothing is unpacked to disk, and whatever the archive claims, memory and time stay bounded.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import IO, BinaryIO, NoReturn, cast

from lora_operator.artifacts import CONFIG_FILE, WEIGHTS_FILE
from lora_operator.artifacts.adapter_config import MAX_CONFIG_BYTES
from lora_operator.artifacts.header import MAX_HEADER_BYTES
from lora_operator.fetch.limits import Limits
from lora_operator.sources.base import SourceError
from lora_operator.sources.remote_inspection import FIRST_BYTES, RemoteFile

BLOCK_BYTES = 1 << 20
# No part of an archive's own book-keeping is longer; a zip's directory of this size has some 90,000 entries.
PIECE_BYTES_MAX = 4 << 20
# What headers and configs of one archive may take in memory, all together.
KEPT_BYTES_MAX = 2 * MAX_HEADER_BYTES
# What is believed before the ratio of unpacked to packed bytes says "bomb".
RATIO_FREE_BYTES = 64 << 20
_ZIP_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_DAMAGED = (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, gzip.BadGzipFile, ValueError, RuntimeError,
            NotImplementedError, struct.error)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Member:
    """One file of an archive: its folder ("" for the top), the file, and its beginning as far as it may be needed."""

    folder: str
    file: RemoteFile
    beginning: bytes = field(default=b"", repr=False)


def read_tar(what: str, packed: BinaryIO, packed_bytes: int, kind: str, limits: Limits) -> list[Member]:
    """All files of a .tar or .tar.gz that can only be read forward. Blocking. Raises SourceError."""
    most = min(limits.unpacked_bytes, RATIO_FREE_BYTES + packed_bytes * limits.unpacked_ratio)
    unpacked = Forward(what, packed.read, most)
    if kind != "tar":
        unpacked = Forward(what, gzip.GzipFile(fileobj=packed, mode="rb").read, most)
    members = _noted(what, _tar_files(what, unpacked, limits))
    _guarded(what, kind, unpacked.drain)  # so that a cut or damaged end is noticed
    return members


def read_zip(what: str, packed: BinaryIO, packed_bytes: int, limits: Limits) -> list[Member]:
    """All files of a .zip that can be read at any place. Blocking. Raises SourceError."""
    most = min(limits.unpacked_bytes, RATIO_FREE_BYTES + packed_bytes * limits.unpacked_ratio)
    return _noted(what, _zip_files(what, packed, limits, most))


class Forward(io.RawIOBase):
    """A stream that cannot go back, for readers that only seek forward; gives at most `most_bytes`."""

    def __init__(self, what: str, read: Callable[[int], bytes], most_bytes: int) -> None:
        super().__init__()
        self._what = what
        self._read = read
        self._most_bytes = most_bytes
        self._place = 0

    def read(self, size: int = -1, /) -> bytes:
        if size < 0 or size > PIECE_BYTES_MAX:
            too_large(self._what, f"a header of {size} bytes")
        parts = bytearray()
        while len(parts) < size and (part := self._read(size - len(parts))):
            parts += part
        self._place += len(parts)
        if self._place > self._most_bytes:
            too_large(self._what, f"more than {self._most_bytes} bytes when unpacked")
        return bytes(parts)

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        if whence != io.SEEK_SET or offset < self._place:
            raise io.UnsupportedOperation("this stream only goes forward")
        while self._place < offset and self.read(min(BLOCK_BYTES, offset - self._place)):
            pass
        return self._place

    def drain(self) -> None:
        """Read what is left."""
        while self.read(BLOCK_BYTES):
            pass

    def tell(self) -> int:
        return self._place

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True


def too_large(what: str, found: str) -> NoReturn:
    """Refuse an archive that would take too much of something."""
    raise SourceError(
        "ArchiveTooLarge",
        f"{what} has {found}: pack only the adapters, or raise the limit in the operator's settings",
        retryable=False,
    )


# name, size, and a way to open it
_Files = Iterator[tuple[str, int, Callable[[], IO[bytes]]]]


def _tar_files(what: str, packed: Forward, limits: Limits) -> _Files:
    with tarfile.open(fileobj=cast(BinaryIO, packed), mode="r:", errorlevel=1) as tar:
        for number, member in enumerate(tar):
            _bound(what, number, limits)
            tar.members.clear()  # type: ignore[attr-defined] # else it remembers every one
            if member.isdir():
                continue
            _check_name(what, member.name, plain=member.isreg() and not member.issparse())
            if member.isreg():
                yield member.name, member.size, partial(_extracted, tar, member)


def _extracted(tar: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    stream = tar.extractfile(member)
    assert stream is not None  # it is a regular file
    return stream


def _zip_files(what: str, packed: BinaryIO, limits: Limits, most_bytes: int) -> _Files:
    unpacked_bytes = 0
    with zipfile.ZipFile(packed) as archive:
        for number, info in enumerate(archive.infolist()):
            _bound(what, number, limits)
            if info.is_dir():
                continue
            regular = info.external_attr >> 28 in (0, 8)
            readable = not info.flag_bits & 1 and info.compress_type in _ZIP_METHODS
            _check_name(what, info.filename, plain=regular and readable)
            if regular and readable:
                unpacked_bytes += info.file_size if _is_wanted(info.filename) else 0
                if unpacked_bytes > most_bytes:
                    too_large(what, f"more than {most_bytes} bytes when unpacked")
                yield info.filename, info.file_size, partial(archive.open, info)


def _noted(what: str, files: _Files) -> list[Member]:
    """Each file once, the first of its name, with digest and beginning where it is of an adapter."""
    found: dict[str, Member] = {}
    kept_bytes = 0

    def note() -> None:
        nonlocal kept_bytes
        for name, size, opened in files:
            path = "/".join(part for part in name.split("/") if part not in ("", "."))
            if path in found:
                continue
            folder, _, last = path.rpartition("/")
            if not _is_wanted(path):
                found[path] = Member(folder, RemoteFile(last, size))
                continue
            with opened() as stream:
                beginning, sha256 = _digested(stream, last, size)
            kept_bytes += len(beginning)
            if kept_bytes > KEPT_BYTES_MAX:
                too_large(what, f"headers and configs of more than {KEPT_BYTES_MAX} bytes")
            found[path] = Member(folder, RemoteFile(last, size, sha256, sha256), beginning)

    _guarded(what, "archive of its kind", note)
    return list(found.values())


def _digested(stream: IO[bytes], name: str, size: int) -> tuple[bytes, str]:
    """The beginning of a member and the sha256 of all of it. Raises EOFError if it is shorter than `size`."""
    wanted = MAX_CONFIG_BYTES + 1 if name == CONFIG_FILE else FIRST_BYTES
    digest, beginning, place = hashlib.sha256(), bytearray(), 0
    while place < size and (block := stream.read(min(BLOCK_BYTES, size - place))):
        if not place and name == WEIGHTS_FILE:
            length = int.from_bytes(block[:8], "little")
            # what is longer than any header is refused by its length alone
            wanted = max(wanted, 8 + length) if length <= MAX_HEADER_BYTES else wanted
        beginning += block[: max(0, wanted - place)]
        digest.update(block)
        place += len(block)
    if place < size:
        raise EOFError
    return bytes(beginning), digest.hexdigest()


def _guarded(what: str, kind: str, work: Callable[[], None]) -> None:
    try:
        work()
        return
    except SourceError:
        raise
    except _DAMAGED:
        pass
    raise SourceError("ArchiveInvalid", f"{what} is damaged or is no {kind}: pack it again", retryable=False)


def _is_wanted(path: str) -> bool:
    return path.rpartition("/")[2] in (CONFIG_FILE, WEIGHTS_FILE)


def _check_name(what: str, name: str, *, plain: bool) -> None:
    """Refuse an archive that has an adapter's file as something else than a plain file inside of it."""
    if not _is_wanted(name):
        return
    if not plain or name.startswith("/") or "\\" in name or ".." in name.split("/"):
        raise SourceError(
            "ArchiveUnsafe",
            f"{what} has {name[:200]!r} as something else than a plain file in a folder (a link, a device, a path that "
            "leads out, encrypted or packed in an unusual way): pack the file itself, stored or deflated",
            retryable=False,
        )


def _bound(what: str, count: int, limits: Limits) -> None:
    if count >= limits.members:
        too_large(what, f"more than {limits.members} members")
