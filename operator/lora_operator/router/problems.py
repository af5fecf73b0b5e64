"""Errors of the HTTP API as problem documents (RFC 9457): `type` is for programs, `detail` for people."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from aiohttp import web

MEDIA_TYPE = "application/problem+json"
TYPE_PREFIX = "urn:lora-operator:router:"

TITLES: Mapping[str, tuple[int, str]] = {
    "bad-request": (400, "The request cannot be understood"),
    "ambiguous-adapter": (400, "Several adapters have this name"),
    "unknown-adapter": (404, "No such adapter"),
    "unknown-worker": (404, "No such worker"),
    "unknown-path": (404, "No such path"),
    "method-not-allowed": (405, "Not with this method"),
    "body-too-slow": (408, "The body did not come in time"),
    "body-too-large": (413, "The body is too large"),
    "not-loaded": (503, "The adapter is known and cannot be reached now"),
    "not-recorded": (503, "It could not be recorded that the adapter was asked for"),
    "too-many-loads": (503, "Too many adapters are being loaded"),
    "table-not-loaded": (503, "The routing table is not there yet"),
    "too-many-selections": (503, "Too many texts are being compared"),
    "too-many-streams": (503, "Too many streams are open"),
}


class Problem(Exception):
    """What is wrong with a request; `kind` is one of TITLES, `more` goes into the document as it is."""

    def __init__(
        self, kind: str, detail: str, *, retry_after_seconds: int | None = None, allow: str = "", **more: Any
    ) -> None:
        super().__init__(detail)
        self.status, self.title = TITLES[kind]
        self.kind = kind
        self.retry_after_seconds = retry_after_seconds
        self.allow = allow
        self.more = more

    def response(self) -> web.Response:
        body = {
            "type": TYPE_PREFIX + self.kind,
            "title": self.title,
            "status": self.status,
            "detail": str(self),
        } | self.more
        headers = {} if self.retry_after_seconds is None else {"Retry-After": str(self.retry_after_seconds)}
        if self.allow:
            headers["Allow"] = self.allow
        return web.Response(status=self.status, text=json.dumps(body), content_type=MEDIA_TYPE, headers=headers)


def refuse(status: int, text: str) -> web.Response:
    """The answer to a request that reaches no handler."""
    return Problem("unknown-path" if status == 404 else "bad-request", text).response()
