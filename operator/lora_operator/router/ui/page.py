"""Serves the page's files. The browser may load nothing from anywhere else, and run nothing but these files."""

from __future__ import annotations

import hashlib
from http import HTTPStatus
from importlib import resources

from aiohttp import web

from lora_operator.router.problems import Problem

INDEX = "index.html"
CONTENT_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
VERSION_HEADER = "X-Web-View"  # of what the page asks: it loads itself anew when a newer router answers
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-cache",
}


class Page:
    """All files, read once. `tag` changes with any of them."""

    def __init__(self) -> None:
        folder = resources.files("lora_operator.router.ui") / "static"
        self._files: dict[str, tuple[bytes, dict[str, str]]] = {}
        for item in folder.iterdir():
            content_type = CONTENT_TYPES.get("." + item.name.rpartition(".")[2])
            if content_type is not None:
                data = item.read_bytes()
                tag = f'"{hashlib.sha256(data).hexdigest()[:16]}"'
                self._files[item.name] = data, HEADERS | {"Content-Type": content_type, "ETag": tag}
        everything = b"".join(self._files[name][0] for name in sorted(self._files))
        self.tag = hashlib.sha256(everything).hexdigest()[:16]

    async def redirect(self, _: web.Request) -> web.StreamResponse:
        """To the folder; relative, as whoever passes requests on may have put something before the path."""
        return web.Response(status=HTTPStatus.PERMANENT_REDIRECT, headers=HEADERS | {"Location": "ui/"})

    async def file(self, request: web.Request) -> web.StreamResponse:
        """One file; the page itself where none is named. Raises Problem."""
        found = self._files.get(request.match_info["file"] or INDEX)
        if found is None:
            raise Problem("unknown-path", "the web view has no such file; open /ui/")
        data, headers = found
        if request.headers.get("If-None-Match") == headers["ETag"]:
            return web.Response(status=HTTPStatus.NOT_MODIFIED, headers=headers)
        return web.Response(body=data, headers=headers)
