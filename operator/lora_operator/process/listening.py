"""How operator, router and agent serve HTTP: a client that sends nonsense is told so, and is no traceback of ours.

aiohttp logs one for each request line that is too long, unknown method, or body that is not encoded as it says. Its own
texts quote what came, which may be a header with a token.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable
from typing import Any

from aiohttp import web
from aiohttp.http_exceptions import BadHttpMethod, HttpProcessingError, LineTooLong

log = logging.getLogger(__name__)

LINE_BYTES = 8190
NONSENSE = (HttpProcessingError, web.RequestPayloadError)
Refuse = Callable[[int, str], web.Response]


def open_port(host: str, port: int) -> socket.socket:
    """A bound TCP socket. Without a host it takes both families: it does not matter which one a pod's address has.

    Raises OSError.
    """
    both = not host and socket.has_dualstack_ipv6()
    family = socket.AF_INET6 if both or ":" in host else socket.AF_INET
    # named as TCP: asyncio turns Nagle's algorithm off only there, which would add 40 ms to each answer
    opened = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(not both))
        opened.bind((host, port))
    except OSError:
        opened.close()
        raise
    return opened


async def listen(runner: web.BaseRunner, host: str, port: int) -> int:
    """Have `runner` answer there. Returns the port. Raises OSError."""
    opened = open_port(host, port)
    try:
        await web.SockSite(runner, opened).start()
    except BaseException:
        opened.close()
        raise
    return int(opened.getsockname()[1])


class Runner(web.AppRunner):
    """`refuse(status, text)` makes the answer to a request that no handler sees, or whose body cannot be read."""

    __slots__ = ("_refuse",)

    def __init__(self, app: web.Application, refuse: Refuse, **settings: Any) -> None:
        super().__init__(app, access_log=None, **settings)
        self._refuse = refuse

    async def _make_server(self) -> web.Server:
        made = await super()._make_server()
        return _Server(self._refuse, made, max_line_size=LINE_BYTES, max_field_size=LINE_BYTES, **self._kwargs)


class _Server(web.Server):
    def __init__(self, refuse: Refuse, made: web.Server, **settings: Any) -> None:
        super().__init__(made.request_handler, request_factory=made.request_factory, **settings)
        self._refuse = refuse

    def __call__(self) -> web.RequestHandler:
        return _Connection(self, self._refuse, loop=self._loop, **self._kwargs)


class _Connection(web.RequestHandler):
    __slots__ = ("_logged", "_refuse")

    def __init__(self, server: web.Server, refuse: Refuse, **settings: Any) -> None:
        super().__init__(server, **settings)
        self._refuse = refuse
        self._logged = False  # nonsense ends the connection, and may be noticed twice until then

    def log_exception(self, *args: Any, **more: Any) -> None:
        error = more.get("exc_info")
        went = isinstance(error, ConnectionError) and self.transport is None
        if not went and not isinstance(error, NONSENSE):
            super().log_exception(*args, **more)
        elif not self._logged:
            self._logged = True
            remote = self.peername[0] if self.peername else "a client that went"
            log.debug("a request from %s is broken off or makes no sense (%s)", remote, type(error).__name__)

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        if not isinstance(exc, NONSENSE) or request.writer.output_size > 0:
            return super().handle_error(request, status, exc, message)
        self.log_exception(exc_info=exc)
        answer = self._refuse(400, _said(exc))
        answer.force_close()
        return answer

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        if isinstance(resp, web.HTTPException) and resp.status >= 400:
            allowed = resp.headers.get("Allow")
            resp = self._refuse(resp.status, resp.reason)
            if allowed:
                resp.headers["Allow"] = allowed
        return await super().finish_response(request, resp, start_time)


def _said(error: BaseException) -> str:
    if isinstance(error, LineTooLong):
        return f"the request line and each header may have {LINE_BYTES} bytes"
    if isinstance(error, BadHttpMethod):
        return "this is no method of HTTP/1.1, or no HTTP at all"
    if isinstance(error, web.RequestPayloadError):
        return "the body is not encoded as its headers say"
    return "this is no request of HTTP/1.1 that can be understood"
