"""The web page /library. Its files tell nothing of anybody: the page asks the API, with a token of whoever looks."""

from __future__ import annotations

from functools import cache

from fastapi import APIRouter, Request
from fastapi.responses import Response

from lora_library.problems import Problem
from lora_operator.pages.files import HEADERS, Files

ROUTES = APIRouter(include_in_schema=False)


@cache
def _files() -> Files:
    return Files("lora_library.page")


@ROUTES.get("/library")
async def redirect() -> Response:
    """To the folder; relative, as whoever passes requests on may have put something before the path."""
    return Response(status_code=308, headers=HEADERS | {"Location": "library/"})


@ROUTES.get("/library/")
@ROUTES.get("/library/{file}")
async def file(request: Request, file: str = "") -> Response:
    found = _files().get(file)
    if found is None:
        raise Problem("NOT_FOUND", "the web page has no such file; open /library/")
    if found.known(request.headers.get("If-None-Match")):
        return Response(status_code=304, headers=dict(found.headers))
    return Response(found.data, headers=dict(found.headers))
