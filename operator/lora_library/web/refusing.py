"""A problem as an answer."""

from __future__ import annotations

from starlette.responses import JSONResponse

from lora_library.problems import MEDIA_TYPE, Problem


def problem_response(problem: Problem) -> JSONResponse:
    headers = {}
    if problem.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if problem.status in (429, 503):
        headers["Retry-After"] = "5"
    if "allow" in problem.more:
        headers["Allow"] = str(problem.more["allow"])
    return JSONResponse(problem.document(), problem.status, headers=headers, media_type=MEDIA_TYPE)
