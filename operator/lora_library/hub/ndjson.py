"""Reads a commit as it comes: one JSON object a line, the content of files in it as base64. Contents go onto the disk,
so that memory is bounded however large they are."""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from lora_library.problems import Problem
from lora_library.receiving.multipart import too_large

MOST_LINES = 1000
MOST_LINE_BYTES = 64 << 10  # without the content
# within a string every quote has a backslash before it, so this can only be the key
_CONTENT = re.compile(rb'"content"\s*:\s*"')
_SHA256 = re.compile("[0-9a-f]{64}")
_TAIL = 64  # of a line may be the beginning of that


@dataclass(frozen=True, slots=True)
class Operation:
    """`kind`: file, lfsFile, deletedFile, deletedFolder. `file` is where the content of a file is; `sha256` is what one
    has that was sent before."""

    kind: str
    path: str
    file: Path | None = None
    sha256: str = ""


async def operations_of(body: AsyncIterator[bytes], folder: Path, most_bytes: int) -> list[Operation]:
    """Raises Problem: INVALID_REQUEST, FILE_TOO_LARGE."""
    reader = _Reader(folder, most_bytes)
    try:
        async for chunk in body:
            reader.feed(chunk)
        return reader.finish()
    finally:
        reader.close()


class _Reader:
    def __init__(self, folder: Path, most_bytes: int) -> None:
        self._folder, self._most_bytes = folder, most_bytes
        self._line = bytearray()
        self._left = b""  # of base64, what is no whole group of four yet
        self._open: BinaryIO | None = None
        self._file: Path | None = None
        self._written = self._lines = 0
        self._found: list[Operation] = []

    def feed(self, data: bytes) -> None:
        while data:
            data = self._content(data) if self._open is not None else self._plain(data)

    def finish(self) -> list[Operation]:
        if self._open is not None:
            raise _invalid("it ends within a file")
        if self._line.strip():
            self._end_of_line()
        return self._found

    def close(self) -> None:
        if self._open is not None:
            self._open.close()

    def _plain(self, data: bytes) -> bytes:
        """Until the content of a file, or the end of the line. What is left."""
        line, newline, rest = data.partition(b"\n")
        searched = max(0, len(self._line) - _TAIL)
        self._line += line
        if self._file is None and (found := _CONTENT.search(self._line, searched)):
            rest = bytes(self._line[found.end() :]) + newline + rest
            del self._line[found.end() :]
            self._file = self._folder / f"file-{self._lines}"
            self._open = self._file.open("xb")
            return rest
        if len(self._line) > MOST_LINE_BYTES:
            raise _invalid(f"a line has more than {MOST_LINE_BYTES} bytes besides the content of a file")
        if newline:
            self._end_of_line()
        return rest

    def _content(self, data: bytes) -> bytes:
        assert self._open is not None
        content, quote, rest = data.partition(b'"')
        groups = self._left + content.replace(b"\\", b"")  # some write \/ for /
        whole = len(groups) if quote else len(groups) // 4 * 4
        self._left = groups[whole:]
        try:
            decoded = base64.b64decode(groups[:whole], validate=True)
        except binascii.Error:
            raise _invalid("the content of a file is no base64") from None
        self._written += len(decoded)
        if self._written > self._most_bytes:
            raise too_large(self._most_bytes)
        self._open.write(decoded)
        if quote:
            self._open.close()
            self._open = None
            self._line += quote
        return rest

    def _end_of_line(self) -> None:
        line, file = bytes(self._line), self._file
        self._line.clear()
        self._file = None
        self._lines += 1
        if self._lines > MOST_LINES:
            raise _invalid(f"it has more than {MOST_LINES} lines")
        if not line.strip():
            return
        try:
            said = json.loads(line)
            kind, value = said["key"], said["value"]
            if kind != "header":
                self._found.append(_operation(kind, value, file))
        except (ValueError, RecursionError, LookupError, TypeError, AttributeError):
            raise _invalid(f"its line {self._lines} cannot be read") from None


def _operation(kind: str, value: dict[str, Any], file: Path | None) -> Operation:
    path = value["path"]
    if kind not in ("file", "lfsFile", "deletedFile", "deletedFolder") or not isinstance(path, str):
        raise ValueError
    if kind == "file" and (file is None or value.get("encoding") != "base64"):
        raise ValueError
    if kind == "lfsFile":
        if not _SHA256.fullmatch(value["oid"]):
            raise ValueError
        return Operation(kind, path, None, value["oid"])
    return Operation(kind, path, file)


def _invalid(what: str) -> Problem:
    return Problem("INVALID_REQUEST", f"the commit cannot be taken: {what}")
