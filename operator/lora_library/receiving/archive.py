"""Takes an adapter's two files out of an archive that anybody may have made: only them, as plain bytes, and bounded."""

from __future__ import annotations

import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from lora_library.problems import Problem
from lora_library.receiving.multipart import ReceivedFile, too_large
from lora_operator.artifacts import CONFIG_FILE, WEIGHTS_FILE

BLOCK_BYTES = 1 << 20
MOST_MEMBERS = 10_000
MOST_DIRECTORY_BYTES = 8 << 20
MOST_HEADER_BYTES = 1 << 20  # of a long name, or of attributes, in a tar
# What is believed before the ratio of unpacked to packed bytes says "bomb": no weights are packed as well as that.
RATIO_FREE_BYTES = 64 << 20
MOST_RATIO = 100
# Others (LZMA, bzip2, Zstandard) unpack with as much memory as the archive asks for.
ZIP_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_WANTED = (CONFIG_FILE, WEIGHTS_FILE)


def kind_of(file: ReceivedFile) -> str | None:
    """zip or tar, by its first bytes; None for anything else. What torch.save writes is a zip, and no archive."""
    with file.path.open("rb") as content:
        head = content.read(262)
    if head.startswith(b"PK\x03\x04"):
        return None if b"data.pkl" in head or b"/version" in head[:120] else "zip"
    if head.startswith(b"\x1f\x8b") or head[257:262] == b"ustar":
        return "tar"
    return None


def unpack(
    file: ReceivedFile, kind: str, folder: Path, most_bytes: int, take: Callable[[int], None]
) -> list[ReceivedFile]:
    """The files of an adapter in it, wherever in the archive they are. Blocking. Raises Problem."""
    taken: dict[str, ReceivedFile] = {}
    others: list[ReceivedFile] = []
    left = min(most_bytes, RATIO_FREE_BYTES + MOST_RATIO * file.size_bytes)
    with _readable(kind), file.path.open("rb") as packed:
        for name, size, stream in (_zip if kind == "zip" else _tar)(packed, most_bytes):
            last = name.rpartition("/")[2]
            if last not in _WANTED:
                others.append(ReceivedFile(last, file.path, size))
                continue
            if last in taken:
                raise _invalid(f"it has several {last}: pack one adapter")
            if size > left:
                raise too_large(most_bytes) if size > most_bytes else _invalid("it unpacks to far more than it is")
            path = folder / f"unpacked-{len(taken)}"
            written = _write(stream, path, min(left, size), take)
            left -= written
            taken[last] = ReceivedFile(last, path, written)
    file.path.unlink()
    return [*taken.values(), *(each for each in others if each.name)]


def _write(stream: IO[bytes], path: Path, most_bytes: int, take: Callable[[int], None]) -> int:
    written = 0
    with path.open("xb") as out:
        while block := stream.read(BLOCK_BYTES):
            written += len(block)
            if written > most_bytes:
                raise _invalid("it unpacks to more than it says")
            take(len(block))
            out.write(block)
    return written


def _zip(packed: IO[bytes], most_bytes: int) -> Iterator[tuple[str, int, IO[bytes]]]:
    _check_directory(packed)
    with zipfile.ZipFile(packed) as archive:
        for item in archive.infolist():
            if item.is_dir():
                continue
            if item.flag_bits & 1:
                raise _invalid("it is encrypted: pack it without a password")
            if item.compress_type not in ZIP_METHODS:
                raise _invalid("it is packed by another method than deflate: pack it with zip, without options")
            mode = item.external_attr >> 16
            if mode and (mode & 0o170000) not in (0, 0o100000):
                raise _invalid(f"{item.filename[:100]!r} is no plain file: pack the files themselves")
            with archive.open(item) as stream:
                yield item.filename, item.file_size, stream


def _tar(packed: IO[bytes], most_bytes: int) -> Iterator[tuple[str, int, IO[bytes]]]:
    head = packed.read(2)
    packed.seek(0)
    # read forward only, so that nothing is unpacked twice; what is passed over counts too
    mode = "r|gz" if head == b"\x1f\x8b" else "r|"
    with tarfile.open(fileobj=packed, mode=mode, tarinfo=_Bounded) as archive:  # type: ignore[call-overload]
        members = total = 0
        for item in archive:
            members += 1
            total += item.size
            if members > MOST_MEMBERS or total > 2 * most_bytes:
                raise too_large(most_bytes)
            if item.isdir():
                continue
            if not item.isreg():
                if item.name.rpartition("/")[2] in _WANTED:
                    raise _invalid(f"{item.name[:100]!r} is no plain file: pack the files themselves (tar -h)")
                continue
            stream = archive.extractfile(item)
            if stream is not None:
                yield item.name, item.size, stream


class _Bounded(tarfile.TarInfo):
    """The library reads the headers of a member into memory as a whole, whatever size they announce: so look before.
    A sparse file has a map beside, as long as it likes; no weights are stored like that."""

    _LONG = (tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, tarfile.XHDTYPE, tarfile.XGLTYPE,
             tarfile.SOLARIS_XHDTYPE)  # fmt: skip

    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        if self.type in self._LONG and self.size > MOST_HEADER_BYTES:
            raise _invalid(f"a name or the attributes of a file in it have {self.size} bytes")
        if self.type == tarfile.GNUTYPE_SPARSE:
            self._proc_gnusparse_10()
        return super()._proc_member(archive)  # type: ignore[misc, no-any-return]

    def _proc_gnusparse_10(self, *_: object) -> None:
        raise _invalid("it has sparse files: pack it without --sparse")


def _check_directory(packed: IO[bytes]) -> None:
    """A zip's directory is read into memory as a whole: look at its announced size before that, as the library finds
    it; a second look of our own could be shown another one."""
    end = zipfile._EndRecData(packed)  # type: ignore[attr-defined]
    if end is None:
        raise zipfile.BadZipFile("no end")
    if end[zipfile._ECD_ENTRIES_TOTAL] > MOST_MEMBERS or end[zipfile._ECD_SIZE] > MOST_DIRECTORY_BYTES:  # type: ignore[attr-defined]
        raise _invalid("it has too many files: pack one adapter")
    packed.seek(0)


@contextmanager
def _readable(kind: str) -> Iterator[None]:
    try:
        yield
    except (
        tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, RuntimeError,
        NotImplementedError, OverflowError,
    ) as error:  # fmt: skip
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk's
        raise _invalid("it is damaged: pack it again") from None


def _invalid(what: str) -> Problem:
    return Problem("INVALID_FILE_FORMAT", f"the archive cannot be taken: {what}", detected="archive")
