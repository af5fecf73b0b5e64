"""How the hub says no: by status and X-Error-Code, with a sentence that may change any day."""

from __future__ import annotations

from aiohttp import web


def refused(status: int, code: str, message: str) -> web.Response:
    """An error answer; `code` "" where the hub sends none."""
    headers = {"X-Error-Message": message} | ({"X-Error-Code": code} if code else {})
    return web.json_response({"error": message}, status=status, headers=headers)
