"""The `model` of a form (audio transcriptions): read, and replaced without touching another byte of the body.

Whoever reads a form more leniently than its engine could be made to see another model than the engine does. So what
engines' parsers may take in different ways is refused: more than one `model`, a preamble, folded headers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from lora_operator.picking.model_field import NAME_LENGTH, BadBody, Body

FORM = "multipart/form-data"
MOST_PARTS = 100
HEADER_BYTES = 4096
_BOUNDARY = re.compile(r"""^multipart/form-data\s*;\s*boundary=(?:"([^"\\;]{1,70})"|([^\s";,]{1,70}))\s*$""", re.I)

_ONE = r'\s*;\s*([a-z]+\*?)=("(?:[^"\\]|\\.)*"|[^\s";]+)'
_DISPOSITION = re.compile(rf"^form-data(?:{_ONE})+$", re.I)
_PARAMETER = re.compile(_ONE, re.I)


def is_form(content_type: str) -> bool:
    """Whether a body of this type is read here."""
    return content_type.partition(";")[0].strip().lower() == FORM


def read_form(raw: bytes, content_type: str) -> Body:
    """Raises BadBody: it is no such form, or has no one `model`, or one that is no name."""
    found = _BOUNDARY.match(content_type.strip())
    if found is None:
        raise BadBody(f"the content type of the form names no usable boundary: {content_type[:100]!r}")
    spans = [span for name, span in _parts(raw, (found[1] or found[2]).encode()) if name == "model"]
    if len(spans) != 1:
        raise BadBody(f'the form has {len(spans)} fields "model"; name the adapter or the base model in one')
    ((start, end),) = spans
    try:
        model = raw[start:end].decode()
    except UnicodeDecodeError as error:
        raise BadBody('"model" in the form is not UTF-8') from error
    if not 0 < len(model) <= NAME_LENGTH:
        raise BadBody(f'"model" in the form is not a name; give 1 to {NAME_LENGTH} characters')
    return Body(raw, model, ((start, end),), is_json=False)


def _parts(raw: bytes, boundary: bytes) -> Iterator[tuple[str, tuple[int, int]]]:
    """The name of each part, and where its content stands. Raises BadBody."""
    line, between = b"--" + boundary, b"\r\n--" + boundary
    if not raw.startswith(line):
        raise BadBody("the form does not begin with its boundary")
    at = len(line)
    for _ in range(MOST_PARTS):
        after = raw[at : at + 2]
        if after == b"--":
            if raw[at + 2 :].strip(b"\r\n"):
                raise BadBody("the form goes on after its last boundary")
            return
        if after != b"\r\n":
            raise BadBody("a boundary of the form has something behind it on its line")
        head_end = raw.find(b"\r\n\r\n", at, at + HEADER_BYTES)
        start = head_end + 4
        end = raw.find(between, start)
        if head_end < 0 or end < 0:
            raise BadBody("the form ends too early, or a part of it has more than 4 KiB of headers")
        yield _name(raw[at + 2 : head_end]), (start, end)
        at = end + len(between)
    raise BadBody(f"the form has more than {MOST_PARTS} parts")


def _name(head: bytes) -> str:
    """Of a part, by its headers. Raises BadBody."""
    names: list[str] = []
    try:
        for line in head.decode().split("\r\n"):
            key, colon, value = line.partition(":")
            if not colon or key != key.strip() or "\n" in line or "\r" in line:
                raise BadBody("a part of the form has a header that is folded or none")
            if key.lower() == "content-transfer-encoding":
                raise BadBody("a part of the form is encoded; send it as it is")
            if key.lower() == "content-disposition":
                names.append(_disposed(value.strip()))
    except UnicodeDecodeError as error:
        raise BadBody("a part of the form has a header that is not UTF-8") from error
    if len(names) != 1:
        raise BadBody("a part of the form has no Content-Disposition, or several")
    return names[0]


def _disposed(value: str) -> str:
    parameters: list[tuple[str, str]] = []
    if _DISPOSITION.match(value):
        parameters = [(key.lower(), text) for key, text in _PARAMETER.findall(value)]
    names = [text.strip('"') for key, text in parameters if key in ("name", "name*")]
    if len(names) != 1 or "name*" in dict(parameters) or "\\" in names[0]:
        raise BadBody("a part of the form has no plain name")
    if names[0] == "model" and len(parameters) > 1:
        raise BadBody('"model" in the form is a file; send a plain field')
    return names[0]
