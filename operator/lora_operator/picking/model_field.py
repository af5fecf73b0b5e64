"""The `model` of a request's body: read, and replaced without touching another byte of it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from json.decoder import scanstring  # type: ignore[attr-defined]
from typing import Any

_DECODER = json.JSONDecoder()
NAME_LENGTH = 512
# What a few bytes of JSON become in memory is twenty times as large, and all other requests wait while it is read.
MOST_VALUES = 1_000_000
MOST_MEMBERS = 1000
_SPACE = re.compile(r"[ \t\n\r]*")


class BadBody(Exception):
    """The body names no model; the message says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Body:
    """`spans`: where in `raw` the values of `model` stand. Engines take the last one, whoever else looks may not.
    `members`: those of the others that were asked for."""

    raw: bytes
    model: str
    spans: tuple[tuple[int, int], ...]
    members: Mapping[str, Any] = field(default_factory=dict)
    is_json: bool = True

    def with_model(self, name: str) -> bytes:
        """The same body with another model, wherever it names one."""
        said, at, parts = (json.dumps(name) if self.is_json else name).encode(), 0, []
        for start, end in self.spans:
            parts += [self.raw[at:start], said]
            at = end
        return b"".join([*parts, self.raw[at:]])


def read_body(raw: bytes, wanted: frozenset[str] = frozenset()) -> Body:
    """The body of a request to an OpenAI-compatible engine. `wanted`: members that are of use beside `model`.

    Parsed by member rather than as a whole, so that numbers, order and duplicates reach the engine as they came.

    Raises:
        BadBody: it is no JSON object in UTF-8, or has too many values, or no `model`, or one that is no name.
    """
    if raw.count(b",") + raw.count(b"[") + raw.count(b"{") > MOST_VALUES:  # at least as many as there are values
        raise BadBody(f"the body has too many parts: more than {MOST_VALUES} commas and brackets; send less")
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise BadBody('the body is not UTF-8; send JSON with a member "model"') from error
    try:
        model, spans, members = _members(text, wanted)
    except (ValueError, IndexError, RecursionError) as error:
        said = error.msg if isinstance(error, json.JSONDecodeError) else "it ends too early or nests too deeply"
        raise BadBody(f'the body is not JSON ({said}); send a JSON object with a member "model"') from error
    if not spans:
        raise BadBody('the body has no "model"; name the adapter or the base model there')
    if not isinstance(model, str) or not 0 < len(model) <= NAME_LENGTH:
        raise BadBody(f'"model" in the body is not a name; give a string of 1 to {NAME_LENGTH} characters')
    return Body(raw, model, tuple(spans if text.isascii() else _in_bytes(text, spans)), members)


def _members(text: str, wanted: frozenset[str]) -> tuple[object, list[tuple[int, int]], dict[str, Any]]:
    """The value of the last `model`, where all of them stand, and what is wanted. Raises ValueError, IndexError."""
    found: dict[str, Any] = {}
    model: object = None
    spans: list[tuple[int, int]] = []
    members = 0
    at = _expect(text, _skip(text, 0), "{")
    if text[at] == "}":
        at += 1
    else:
        while True:
            if text[at] != '"':
                raise json.JSONDecodeError("Expecting a name in quotes", text, at)
            name, at = scanstring(text, at + 1, True)
            at = _expect(text, _skip(text, at), ":")
            value, end = _DECODER.raw_decode(text, at)
            members += 1
            if members > MOST_MEMBERS:
                raise BadBody(f"the body has more than {MOST_MEMBERS} members; send a request as the engine knows it")
            if name == "model":
                model = value
                spans.append((at, end))
            elif name in wanted:
                found[name] = value
            at = _skip(text, end)
            if text[at] == "}":
                at += 1
                break
            at = _expect(text, at, ",")
    if _skip(text, at) != len(text):
        raise json.JSONDecodeError("Extra data", text, at)
    return model, spans, found


def _in_bytes(text: str, spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same places in UTF-8, in one pass."""
    found, seen, size = [], 0, 0
    for start, end in spans:
        first = size + len(text[seen:start].encode())
        size = first + len(text[start:end].encode())
        seen = end
        found.append((first, size))
    return found


def _skip(text: str, at: int) -> int:
    """The next place that is no white space."""
    found = _SPACE.match(text, at)
    assert found is not None  # it matches nothing at all too
    return found.end()


def _expect(text: str, at: int, sign: str) -> int:
    """Past `sign` and the white space behind it."""
    if text[at] != sign:
        raise json.JSONDecodeError(f"Expecting '{sign}'", text, at)
    return _skip(text, at + 1)
