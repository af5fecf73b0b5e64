"""Small HTTP answers, and the checks that the API server's framework makes before a handler runs."""

from __future__ import annotations

import json
from typing import Any

from aiohttp import web

from .registry import Refused, error_body
from .releases import Release

NOT_FOUND = {"detail": "Not Found"}
METHOD_NOT_ALLOWED = {"detail": "Method Not Allowed"}


def as_json(body: object, status: int = 200) -> web.Response:
    """A JSON answer, compact as FastAPI writes it."""
    raw = json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode()
    return web.Response(body=raw, status=status, content_type="application/json")


def as_error(refused: Refused, release: Release) -> web.Response:
    """An error in this release's shape."""
    return as_json(error_body(refused, release), refused.status)


def as_bare_text(text: str) -> web.Response:
    """200 with a text and, as vLLM's load and unload do, no content-type."""
    return _Untyped(body=text.encode())


class _Untyped(web.Response):
    """aiohttp adds application/octet-stream to a body without a type; vLLM sends none."""

    async def _prepare_headers(self) -> None:
        await super()._prepare_headers()
        self._headers.popall("Content-Type", None)


def json_object(raw: bytes, content_type: str) -> dict[str, Any]:
    """The request's JSON object. Raises Refused with 400 where the framework would (never 415 or 422)."""
    if content_type.lower().split(";", maxsplit=1)[0] != "application/json":
        raise bad_request("Unsupported Media Type: Only 'application/json' is allowed")
    try:
        body = json.loads(raw)
    except ValueError as exc:
        raise bad_request(f"JSON decode error: {exc}") from None
    if not isinstance(body, dict):
        raise bad_request("Input should be a valid dictionary or object to extract fields from")
    return body


def text_field(body: dict[str, Any], name: str) -> str:
    """A required string. Raises Refused with 400."""
    param = f"body.{name}"
    if name not in body:
        raise bad_request(f"{{'type': 'missing', 'loc': '{param}', 'msg': 'Field required'}}", param)
    value = body[name]
    if not isinstance(value, str):
        message = f"{{'type': 'string_type', 'loc': '{param}', 'msg': 'Input should be a valid string'}}"
        raise bad_request(message, param)
    return value


def flag_field(body: dict[str, Any], name: str) -> bool:
    """An optional boolean, read as leniently as pydantic does. Raises Refused with 400."""
    value = body.get(name, False)
    if isinstance(value, str):
        value = value.lower()
    for meaning, spellings in ((True, (True, 1, "1", "true", "t", "yes", "y", "on")),
                               (False, (False, 0, "0", "false", "f", "no", "n", "off"))):  # fmt: skip
        if value in spellings:
            return meaning
    message = f"{{'type': 'bool_parsing', 'loc': 'body.{name}', 'msg': 'Input should be a valid boolean'}}"
    raise bad_request(message, f"body.{name}")


def check_id(body: dict[str, Any], name: str) -> None:
    """An optional integer that nobody uses. Raises Refused with 400."""
    value = body.get(name)
    try:
        if value is not None and int(value) != float(value):
            raise ValueError
    except (TypeError, ValueError):
        message = f"{{'type': 'int_parsing', 'loc': 'body.{name}', 'msg': 'Input should be a valid integer'}}"
        raise bad_request(message, f"body.{name}") from None


def bad_request(problem: str, param: str | None = None) -> Refused:
    """The framework's refusal of a body."""
    return Refused(400, "Bad Request", f"1 validation error:\n  {problem}", param)
