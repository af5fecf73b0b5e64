"""The `model` of a request's body: read, and replaced without touching another byte of it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from json.decoder import scanstring  # type: ignore[attr-defined]

_DECODER = json.JSONDecoder()
NAME_LENGTH = 512
_SPACE = " \t\n\r"


class BadBody(Exception):
    """The body names no model; the message says what is wrong with it."""


@dataclass(frozen=True, slots=True)
class Body:
    """`spans`: where in `text` the values of `model` stand. Engines take the last one, whoever else looks may not."""

    text: str
    model: str
    spans: tuple[tuple[int, int], ...]

    def with_model(self, name: str) -> bytes:
        """The same body with another model, wherever it names one."""
        said, at, parts = json.dumps(name), 0, []
        for start, end in self.spans:
            parts += [self.text[at:start], said]
            at = end
        return "".join([*parts, self.text[at:]]).encode()


def read_body(raw: bytes) -> Body:
    """The body of a request to an OpenAI-compatible engine.

    Parsed by member rather than as a whole, so that numbers, order and duplicates reach the engine as they came.

    Raises:
        BadBody: it is no JSON object in UTF-8, or has no `model`, or one that is no name.
    """
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise BadBody('the body is not UTF-8; send JSON with a member "model"') from error
    try:
        model, spans = _members(text)
    except (ValueError, IndexError, RecursionError) as error:
        said = error.msg if isinstance(error, json.JSONDecodeError) else "it ends too early or nests too deeply"
        raise BadBody(f'the body is not JSON ({said}); send a JSON object with a member "model"') from error
    if not spans:
        raise BadBody('the body has no "model"; name the adapter or the base model there')
    if not isinstance(model, str) or not 0 < len(model) <= NAME_LENGTH:
        raise BadBody(f'"model" in the body is not a name; give a string of 1 to {NAME_LENGTH} characters')
    return Body(text, model, tuple(spans))


def _members(text: str) -> tuple[object, list[tuple[int, int]]]:
    """The value of the last `model` and where all of them stand. Raises ValueError, IndexError."""
    model: object = None
    spans: list[tuple[int, int]] = []
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
            if name == "model":
                model = value
                spans.append((at, end))
            at = _skip(text, end)
            if text[at] == "}":
                at += 1
                break
            at = _expect(text, at, ",")
    if _skip(text, at) != len(text):
        raise json.JSONDecodeError("Extra data", text, at)
    return model, spans


def _skip(text: str, at: int) -> int:
    """The next place that is no white space."""
    while at < len(text) and text[at] in _SPACE:
        at += 1
    return at


def _expect(text: str, at: int, sign: str) -> int:
    """Past `sign` and the white space behind it."""
    if text[at] != sign:
        raise json.JSONDecodeError(f"Expecting '{sign}'", text, at)
    return _skip(text, at + 1)
