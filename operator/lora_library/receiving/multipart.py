"""Reads multipart/form-data as it comes: files onto the disk, fields into memory, both bounded."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import BinaryIO

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError

from lora_library.problems import Problem

MOST_PARTS = 64
MOST_HEADER_BYTES = 8192
MOST_FIELD_BYTES = 256 << 10


@dataclass(frozen=True, slots=True)
class ReceivedFile:
    """`name` is what the client calls it: for reading alone."""

    name: str
    path: Path
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Form:
    fields: dict[str, list[str]]
    files: list[ReceivedFile]

    def one(self, name: str) -> str | None:
        """The value of a field that may be given once. Raises Problem."""
        values = self.fields.get(name, [])
        if len(values) > 1:
            raise Problem("INVALID_REQUEST", f"the field {name} is given {len(values)} times: give it once")
        return values[0] if values else None


async def receive(body: AsyncIterator[bytes], content_type: str, folder: Path, most_bytes: int) -> Form:
    """Raises Problem: INVALID_REQUEST, FILE_TOO_LARGE."""
    reader = _Reader(_boundary(content_type), folder, most_bytes)
    try:
        async for chunk in body:
            reader.feed(chunk)
        return reader.finish()
    finally:
        reader.close()


def _boundary(content_type: str) -> bytes:
    message = Message()
    message["Content-Type"] = content_type
    boundary = message.get_boundary()
    if message.get_content_type() != "multipart/form-data" or not boundary or len(boundary) > 70:
        raise Problem("INVALID_REQUEST", "send the files as multipart/form-data, for example with curl -F file=@…")
    return boundary.encode("utf-8", "replace")


class _Reader:
    """What the parser calls. One part is open at a time."""

    def __init__(self, boundary: bytes, folder: Path, most_bytes: int) -> None:
        self._folder, self._most_bytes = folder, most_bytes
        self._fields: defaultdict[str, list[str]] = defaultdict(list)
        self._files: list[ReceivedFile] = []
        self._parts = self._bytes = self._field_bytes = 0
        self._name = ""
        self._header = bytearray()
        self._value = bytearray()
        self._headers: list[tuple[bytes, bytes]] = []
        self._header_bytes = 0
        self._field = bytearray()
        self._open: BinaryIO | None = None
        self._path = folder
        self._size = 0
        self._ended = False
        self._file_name: str | None
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": lambda data, start, end: self._head(self._header, data[start:end]),
                "on_header_value": lambda data, start, end: self._head(self._value, data[start:end]),
                "on_header_end": self._header_end,
                "on_headers_finished": self._headers_finished,
                "on_part_data": self._data,
                "on_part_end": self._part_end,
                "on_end": self._end,
            },
        )

    def feed(self, chunk: bytes) -> None:
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise Problem("INVALID_REQUEST", f"the body is no multipart/form-data: {str(error)[:200]}") from None

    def finish(self) -> Form:
        if not self._ended:
            raise Problem("INVALID_REQUEST", "the body ends before its last part does: send it again")
        return Form(dict(self._fields), self._files)

    def close(self) -> None:
        if self._open is not None:
            self._open.close()

    def _begin(self) -> None:
        self._parts += 1
        if self._parts > MOST_PARTS:
            raise Problem("INVALID_REQUEST", f"the body has more than {MOST_PARTS} parts")
        self._headers, self._header_bytes, self._size = [], 0, 0
        self._field = bytearray()

    def _head(self, into: bytearray, data: bytes) -> None:
        self._header_bytes += len(data)
        if self._header_bytes > MOST_HEADER_BYTES:
            raise Problem("INVALID_REQUEST", f"a part has more than {MOST_HEADER_BYTES} bytes of headers")
        into += data

    def _header_end(self) -> None:
        self._headers.append((bytes(self._header), bytes(self._value)))
        self._header.clear()
        self._value.clear()

    def _headers_finished(self) -> None:
        told = next((value for name, value in self._headers if name.lower() == b"content-disposition"), b"")
        message = Message()
        message["Content-Disposition"] = told.decode("utf-8", "replace").replace("\r", " ").replace("\n", " ")
        name = message.get_param("name", "", "content-disposition")
        self._name = name if isinstance(name, str) else ""
        self._file_name = message.get_filename()
        if not self._name:
            raise Problem("INVALID_REQUEST", "a part has no name in its Content-Disposition")
        if self._file_name is not None:
            self._path = self._folder / f"part-{self._parts}"
            self._open = self._path.open("xb")

    def _data(self, data: bytes, start: int, end: int) -> None:
        self._size += end - start
        if self._open is not None:
            self._bytes += end - start
            if self._bytes > self._most_bytes:
                raise too_large(self._most_bytes)
            self._open.write(memoryview(data)[start:end])
            return
        self._field_bytes += end - start
        if self._field_bytes > MOST_FIELD_BYTES:
            raise Problem("INVALID_REQUEST", f"the fields have more than {MOST_FIELD_BYTES} bytes")
        self._field += data[start:end]

    def _part_end(self) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None
            self._files.append(ReceivedFile(self._file_name or "", self._path, self._size))
            return
        try:
            self._fields[self._name].append(self._field.decode())
        except UnicodeDecodeError:
            raise Problem("INVALID_REQUEST", f"the field {self._name[:60]} is no UTF-8") from None

    def _end(self) -> None:
        self._ended = True


def too_large(most_bytes: int) -> Problem:
    return Problem(
        "FILE_TOO_LARGE", f"an upload may have {most_bytes} bytes: train with a lower rank, or ask an administrator",
        maximum=most_bytes,
    )  # fmt: skip
