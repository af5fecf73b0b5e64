"""Serves the page's files."""

from __future__ import annotations

from http import HTTPStatus

from aiohttp import web

from lora_operator.pages.files import HEADERS, Files
from lora_operator.router.problems import Problem

VERSION_HEADER = "X-Web-View"  # of what the page asks: it loads itself anew when a newer router answers


class Page:
    """All files. `tag` changes with any of them."""

    def __init__(self) -> None:
        self._files = Files("lora_operator.router.ui")
        self.tag = self._files.tag

    async def redirect(self, _: web.Request) -> web.StreamResponse:
        """To the folder; relative, as whoever passes requests on may have put something before the path."""
        return web.Response(status=HTTPStatus.PERMANENT_REDIRECT, headers=HEADERS | {"Location": "ui/"})

    async def file(self, request: web.Request) -> web.StreamResponse:
        """One file; the page itself where none is named. Raises Problem."""
        found = self._files.get(request.match_info["file"])
        if found is None:
            raise Problem("unknown-path", "the web view has no such file; open /ui/")
        if found.known(request.headers.get("If-None-Match")):
            return web.Response(status=HTTPStatus.NOT_MODIFIED, headers=found.headers)
        return web.Response(body=found.data, headers=found.headers)
