"""The server: the store that plays faults, with what plain web servers differ in."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web

from e2e.stores.proxy import Fault, FaultyStore


@dataclass(frozen=True, slots=True)
class Asked:
    """A request: what for, and with which Authorization header ("" for none)."""

    method: str
    path: str
    authorization: str = field(default="", repr=False)


class WebStore(FaultyStore):
    """`token`: what everybody has to show, or `login` as "user:password", None for open doors. `faults` are by path;
    without `knows_head`, 405."""

    def __init__(self, files: Mapping[str, bytes | Path], *, token: str | None = None, knows_head: bool = True) -> None:
        super().__init__(files)
        self.token = token
        self.login: str | None = None
        self.knows_head = knows_head
        self.faults: dict[str, Fault] = {}
        self.requests: list[Asked] = []

    @property
    def paths(self) -> list[str]:
        """What was asked for, in the order of the requests."""
        return [asked.path for asked in self.requests]

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        shown = request.headers.get("Authorization", "")
        self.requests.append(Asked(request.method, request.path, shown))
        if self.token is not None and shown != f"Bearer {self.token}":
            return web.Response(status=401, headers={"WWW-Authenticate": "Bearer"})
        if self.login is not None and shown != f"Basic {b64encode(self.login.encode()).decode()}":
            return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="files"'})
        if request.method == "HEAD" and not self.knows_head:
            return web.Response(status=405)
        if request.path in self.faults:
            self.script.appendleft(self.faults[request.path])
        return await super()._answer(request)

    async def _body(
        self,
        request: web.BaseRequest,
        response: web.StreamResponse,
        fault: Fault,
        content: bytes | Path,
        begin: int,
        end: int,
    ) -> None:
        if request.method != "HEAD":
            await super()._body(request, response, fault, content, begin, end)
