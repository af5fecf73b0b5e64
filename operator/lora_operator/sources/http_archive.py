"""Adapters in an archive on a web server: read through once for each version of it."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, BinaryIO, TypeVar, cast
from urllib.parse import urlsplit

import aiohttp

from lora_operator.artifacts import CONFIG_FILE, WEIGHTS_FILE, AdapterRefused
from lora_operator.fetch.limits import Limits
from lora_operator.fetch.manifest import ArchiveKind
from lora_operator.sources.base import SourceError
from lora_operator.sources.http_archive_members import PIECE_BYTES_MAX, Member, read_tar, read_zip, too_large
from lora_operator.sources.http_client import HttpClient, refusal, shown
from lora_operator.sources.http_files import etag_of
from lora_operator.sources.http_ranges import read_range
from lora_operator.sources.remote import RemoteFolder
from lora_operator.sources.remote_inspection import RemoteFile
from lora_operator.sources.remote_threads import Threads
from lora_operator.sources.remote_tree import tree_folders

# One request for a piece of a zip; tars come in one answer.
PIECE_BYTES = 8 << 20
_OTHER_KINDS = (".tar.xz", ".txz", ".tar.bz2", ".tbz2", ".tar.zst", ".7z", ".rar")
_KINDS: dict[str, ArchiveKind] = {".tar": "tar", ".tar.gz": "tar.gz", ".tgz": "tar.gz", ".zip": "zip"}
# What is wrong with one version of an archive, for good.
ABOUT_ARCHIVE = frozenset({"ArchiveInvalid", "ArchiveTooLarge", "ArchiveUnsafe", "NoAdapterHere"})
_T = TypeVar("_T")


def archive_kind(url: str) -> ArchiveKind | None:
    """tar, tar.gz or zip, by the URL's ending; None if it is a folder's. Raises SourceError (BadRepository) for what is
    neither."""
    path = urlsplit(url).path.lower()
    if path.endswith(_OTHER_KINDS):
        raise SourceError(
            "BadRepository",
            f"{shown(url)} is an archive of a kind that is not read: pack it as .tar.gz or .zip",
            retryable=False,
        )
    if path.endswith((".bin", ".safetensors")) and not path.endswith(f"/{WEIGHTS_FILE}"):
        raise SourceError(
            "BadRepository",
            f"{shown(url)} is a file: name the folder that it is in, with {CONFIG_FILE} and {WEIGHTS_FILE}",
            retryable=False,
        )
    return next((kind for suffix, kind in _KINDS.items() if path.endswith(suffix)), None)


def folder_of(url: str) -> str:
    """An adapter's folder, also where the URL is that of one of its two files."""
    folder, _, last = url.rpartition("/")
    return folder if last in (WEIGHTS_FILE, CONFIG_FILE) else url


def without_suffix(name: str) -> str:
    """What an adapter at the top of an archive is called."""
    lower = name.lower()
    return next((name[: -len(suffix)] for suffix in _KINDS if lower.endswith(suffix)), name)


class WebArchive:
    """What one version of an archive holds; a `StoreReader` from memory. A folder's location is its path in it."""

    def __init__(self, members: list[Member], version: str) -> None:
        self._members = members
        self._version = version
        self._beginnings = {(member.folder, member.file.path): member.beginning for member in members}

    def folders(self, root_name: str) -> tuple[RemoteFolder, ...]:
        """The adapters' folders. What is theirs is marked by its digest alone, wherever the archive came from."""
        files = (
            (member.folder, RemoteFile(file.path, file.size_bytes, file.tag, file.sha256, self._version))
            for member in self._members
            for file in [member.file]
        )
        return tree_folders(files, root="", root_name=root_name, origin="")

    async def describe(self, location: str, file: RemoteFile) -> RemoteFile:
        """See `StoreReader`: nothing more is known."""
        return file

    async def read(self, location: str, file: RemoteFile, begin: int, end: int) -> bytes:
        """See `StoreReader`: what was kept is what may be asked for."""
        return self._beginnings[location, file.path][begin:end]


async def read_archive(
    client: HttpClient, url: str, kind: str, archive: RemoteFile, threads: Threads, limits: Limits, seconds: float
) -> WebArchive:
    """Read the archive at `url`, within `seconds`. Raises SourceError."""
    what = f"the archive {shown(url)}"
    try:
        async with asyncio.timeout(seconds):
            read = _read_zip if kind == "zip" else _read_tar
            members = await read(client, url, kind, what, archive, threads, limits)
        if not any(member.beginning for member in members):
            raise SourceError(
                "NoAdapterHere", f"{what} has no {CONFIG_FILE} in it: pack an adapter's folder", retryable=False
            )
        return WebArchive(members, archive.tag)
    except TimeoutError:
        pass
    raise SourceError(
        "Stalled", f"{what} cannot be read within {seconds:g} seconds: check the network and the server", retryable=True
    )


async def _read_tar(
    client: HttpClient, url: str, kind: str, what: str, archive: RemoteFile, threads: Threads, limits: Limits
) -> list[Member]:
    async with client.open("GET", url) as answer:
        if answer.status != 200:
            headers = {name.lower(): value for name, value in answer.headers.items()}
            raise refusal(url, answer.status, headers, has_secret=client.has_secret)
        if answer.content_length not in (None, archive.size_bytes):
            raise _changed(what)
        packed = cast(BinaryIO, _Pulled(answer.content, _Bridge(), archive.size_bytes))
        return await threads.run(lambda: read_tar(what, packed, archive.size_bytes, kind, limits))


async def _read_zip(
    client: HttpClient, url: str, kind: str, what: str, archive: RemoteFile, threads: Threads, limits: Limits
) -> list[Member]:
    probe = await client.ask("GET", url, {"Range": "bytes=0-0"}, limit_bytes=1, whole=False)
    if probe.status == 200 and archive.size_bytes > 1:
        raise SourceError(
            "RangesNeeded",
            f"{what}: a zip's list of files is at its end, and the server knows no ranges: give a .tar.gz, or have the "
            "server answer ranges",
            retryable=False,
        )

    def refuse(answer: Any) -> SourceError:
        return refusal(url, answer.status, answer.headers, has_secret=client.has_secret)

    async def read(begin: int, end: int) -> bytes:
        return await read_range(client, url, archive, begin, end, refuse, etag_of(archive))

    packed = cast(BinaryIO, _Pieces(what, _Ranged(read, _Bridge(), archive.size_bytes), archive.size_bytes))
    try:
        return await threads.run(lambda: read_zip(what, packed, archive.size_bytes, limits))
    except AdapterRefused:
        pass
    raise _changed(what)


def _changed(what: str) -> SourceError:
    return SourceError("SourceChanged", f"{what} changed while it was read: it is read again", retryable=True)


class _Bridge:
    """Lets a thread await what happens in the event loop that this was made in."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()

    def wait_for(self, work: Coroutine[Any, Any, _T]) -> _T:
        future: Future[_T] = asyncio.run_coroutine_threadsafe(work, self._loop)
        return future.result()


class _Pulled(io.RawIOBase):
    """An answer's body, read in a thread. No more of it than was announced."""

    def __init__(self, content: aiohttp.StreamReader, bridge: _Bridge, size_bytes: int) -> None:
        super().__init__()
        self._content = content
        self._bridge = bridge
        self._left = size_bytes + 1

    def read(self, size: int = -1, /) -> bytes:
        wanted = self._left if size < 0 else min(size, self._left)
        part = self._bridge.wait_for(self._content.read(wanted)) if wanted else b""
        self._left -= len(part)
        return part


class _Pieces(io.BufferedReader):
    """Asks for large pieces, and gives small ones: nobody needs all of a long archive in memory at once."""

    def __init__(self, what: str, raw: io.RawIOBase, size_bytes: int) -> None:
        super().__init__(raw, PIECE_BYTES)
        self._what = what
        self._size_bytes = size_bytes

    def read(self, size: int | None = -1, /) -> bytes:
        wanted = size if size is not None and size >= 0 else self._size_bytes - self.tell()
        if wanted > PIECE_BYTES_MAX:
            too_large(self._what, f"a directory of {wanted} bytes")
        return super().read(size)


class _Ranged(io.RawIOBase):
    """A file at a server, read in a thread at any place by ranges."""

    def __init__(
        self, read: Callable[[int, int], Coroutine[Any, Any, bytes]], bridge: _Bridge, size_bytes: int
    ) -> None:
        super().__init__()
        self._read = read
        self._bridge = bridge
        self._size_bytes = size_bytes
        self._place = 0

    def readinto(self, buffer: Any, /) -> int:
        end = min(self._size_bytes, self._place + len(buffer))
        if end <= self._place:
            return 0
        part = self._bridge.wait_for(self._read(self._place, end))
        buffer[: len(part)] = part
        self._place += len(part)
        return len(part)

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size_bytes}[whence]
        if start + offset < 0:
            raise ValueError("before the beginning")
        self._place = start + offset
        return self._place

    def tell(self) -> int:
        return self._place

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True
