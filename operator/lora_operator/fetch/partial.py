"""A file that is being fetched, from its beginning on, and beside it a journal of the blocks that are there.

The journal outlives a kill: each line names a block that was written before by its length and CRC, so that a machine
that lost power does not take holes for content. What was fetched is taken up again only if it is known to be of the
same version.
"""

from __future__ import annotations

import json
import os
import stat
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path

READ_BYTES = 4 << 20
JOURNAL_BYTES_MAX = 64 << 20


@dataclass(frozen=True, slots=True)
class Mark:
    """What tells versions of a file apart: size (None: not known yet), sha256 in hex and ETag ("" if unknown)."""

    size_bytes: int | None
    sha256: str = ""
    tag: str = ""

    def continues(self, before: Mark) -> bool:
        """Whether bytes that were fetched under `before` are bytes of this version, as far as marks can tell."""
        if self.size_bytes is not None and self.size_bytes != before.size_bytes:
            return False
        if self.sha256 or before.sha256:
            return self.sha256 == before.sha256
        return bool(before.tag) and self.tag in ("", before.tag)


class PartialFile:
    """All methods block, and may raise OSError. Not more than one process has a file open at a time."""

    def __init__(self, path: Path, mark: Mark) -> None:
        """Open, and take up what an earlier fetch left if it is of the same version."""
        self.journal_path = journal_of(path)
        self.mark = mark
        self.have_bytes = 0
        self._journal: int | None = None
        self.descriptor = _open(path)
        try:
            self._take_up()
        except BaseException:
            os.close(self.descriptor)
            raise

    @property
    def complete(self) -> bool:
        """Whether all is there."""
        return self.mark.size_bytes is not None and self.have_bytes >= self.mark.size_bytes

    def append(self, block: bytes | bytearray) -> None:
        """Put a block behind what is there, then into the journal."""
        view, place = memoryview(block), self.have_bytes
        while view:
            written = os.pwrite(self.descriptor, view, place)
            view, place = view[written:], place + written
        if self._journal is None:
            self._journal = self._begin_journal()
        os.write(self._journal, f"{len(block)} {zlib.crc32(block)}\n".encode())
        self.have_bytes = place

    def pin(self, mark: Mark) -> None:
        """Know more of the version than before. What is there stays."""
        if mark != self.mark:
            self.mark = mark
            if self._journal is not None:
                os.write(self._journal, _head(mark))

    def reset(self) -> None:
        """Forget all that is there."""
        self._end_journal()
        self.journal_path.unlink(missing_ok=True)
        os.ftruncate(self.descriptor, 0)
        self.have_bytes = 0

    def close(self) -> None:
        """Keep everything for the next one. To be called once."""
        self._end_journal()
        os.close(self.descriptor)

    def _take_up(self) -> None:
        size = os.fstat(self.descriptor).st_size
        lines = _lines(self.journal_path)
        if not lines:
            # whole, and its journal removed: whoever put it there was killed just before it was published
            if size and size == self.mark.size_bytes and self.mark.sha256:
                self.have_bytes = size
            else:
                self.reset()
            return
        before, blocks = _read_journal(lines)
        if before is None or not self.mark.continues(before):
            self.reset()
            return
        self.mark = Mark(self.mark.size_bytes or before.size_bytes, self.mark.sha256, self.mark.tag or before.tag)
        sound: list[bytes] = []
        for length, crc in blocks:
            if self.have_bytes + length > size or _crc(self.descriptor, self.have_bytes, length) != crc:
                break
            self.have_bytes += length
            sound.append(b"%d %d\n" % (length, crc))
        self.journal_path.unlink()
        self._journal = self._begin_journal()
        os.write(self._journal, b"".join(sound))

    def _begin_journal(self) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        journal = os.open(self.journal_path, flags, 0o600)
        os.write(journal, _head(self.mark))
        return journal

    def _end_journal(self) -> None:
        if self._journal is not None:
            os.close(self._journal)
            self._journal = None


def journal_of(path: Path) -> Path:
    """Where the journal of a file lies."""
    return path.with_name(f".{path.name}.parts")


def _open(path: Path) -> int:
    try:
        if stat.S_ISREG(path.lstat().st_mode):
            path.chmod(0o600)
        else:
            path.unlink()  # a link or the like is none of ours
    except FileNotFoundError:
        pass
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def _head(mark: Mark) -> bytes:
    return json.dumps(asdict(mark)).encode() + b"\n"


def _lines(path: Path) -> list[bytes]:
    try:
        if path.lstat().st_size > JOURNAL_BYTES_MAX:
            return []
        raw = path.read_bytes()
    except FileNotFoundError:
        return []
    return raw.split(b"\n")[:-1]  # the last one was torn, or is empty


def _read_journal(lines: list[bytes]) -> tuple[Mark | None, list[tuple[int, int]]]:
    """The last head, and the blocks before the first line that makes no sense."""
    mark: Mark | None = None
    blocks: list[tuple[int, int]] = []
    try:
        for line in lines:
            if line.startswith(b"{"):
                mark = Mark(**json.loads(line))
            else:
                length, crc = map(int, line.split())
                if length <= 0:
                    break
                blocks.append((length, crc))
    except (ValueError, TypeError):
        pass
    return mark, blocks


def _crc(descriptor: int, begin: int, length: int) -> int:
    crc = 0
    while length and (part := os.pread(descriptor, min(length, READ_BYTES), begin)):
        crc = zlib.crc32(part, crc)
        begin, length = begin + len(part), length - len(part)
    return crc
