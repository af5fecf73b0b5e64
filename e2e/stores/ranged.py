"""One answer with a file's bytes, or the range of them that is asked for."""

from __future__ import annotations

import re
from collections.abc import Mapping

from aiohttp import web

_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


def ranged(request: web.BaseRequest, content: bytes, headers: Mapping[str, str]) -> web.Response:
    """206 for a range, 416 for one beyond the end, else 200 with everything."""
    wanted = _RANGE.fullmatch(request.headers.get("Range", ""))
    if wanted is None:
        return web.Response(body=content, headers={"Accept-Ranges": "bytes", **headers})
    begin, end = int(wanted[1]), min(len(content), int(wanted[2] or len(content)) + 1)
    if begin >= end:
        return web.Response(status=416, headers={"Content-Range": f"bytes */{len(content)}"})
    return web.Response(
        status=206,
        body=content[begin:end],
        headers={"Content-Range": f"bytes {begin}-{end - 1}/{len(content)}", **headers},
    )
