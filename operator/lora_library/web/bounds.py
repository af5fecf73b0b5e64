"""Bounds on every request before any handler sees it, and what is said to browsers with each answer."""

from __future__ import annotations

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lora_library.metrics import METHODS, LibraryMetrics
from lora_library.problems import Problem
from lora_library.web.refusing import problem_response

READS = frozenset({"GET", "HEAD", "OPTIONS"})
MOST_BYTES = 1 << 20  # of a body that is no upload
SAID = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}


def _is_upload(method: str, path: str) -> bool:
    return (
        (method == "POST" and (path.endswith("/upload") or (path.startswith("/api/models/") and "/commit/" in path)))
        or (method == "PATCH" and "/uploads/" in path)
        or (method == "PUT" and path.startswith("/api/lfs/"))
    )


class Bounds:
    """ASGI middleware. Uploads have bounds of their own."""

    def __init__(self, app: ASGIApp, metrics: LibraryMetrics) -> None:
        self._app = app
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        upload = _is_upload(scope["method"], scope["path"])
        came = 0

        async def bounded() -> Message:
            nonlocal came
            message = await receive()
            came += len(message.get("body", b""))
            if not upload and came > MOST_BYTES:
                raise Problem("REQUEST_TOO_LARGE", f"a body may have {MOST_BYTES} bytes here")
            return message

        async def counted(message: Message) -> None:
            if message["type"] == "http.response.start":
                method = scope["method"] if scope["method"] in METHODS else "other"
                self._metrics.requests.labels(method, str(message["status"])).inc()
                headers = MutableHeaders(scope=message)
                for name, value in SAID.items():
                    headers.setdefault(name, value)
            await send(message)

        if scope["method"] not in READS and _asked_by_another_site(scope):
            # where something in front adds who somebody is, by a cookie, their browser would do so for every page
            await problem_response(Problem("CROSS_SITE", "a page of another web site asked for this"))(
                scope, receive, counted
            )
            return
        await self._app(scope, bounded, counted)


def _asked_by_another_site(scope: Scope) -> bool:
    """Browsers say so, and no page can have them say otherwise; other clients say nothing."""
    return Headers(scope=scope).get("Sec-Fetch-Site", "none") not in ("same-origin", "none")
