"""A problem as an answer."""

from __future__ import annotations

from starlette.responses import JSONResponse

from lora_library.problems import MEDIA_TYPE, Problem

HUB_CODES = {
    "LORA_NOT_FOUND": "RepoNotFound", "REVISION_NOT_FOUND": "RevisionNotFound", "ENTRY_NOT_FOUND": "EntryNotFound",
}  # fmt: skip


def problem_response(problem: Problem) -> JSONResponse:
    headers = dict(problem.headers)
    # as the clients of Hugging Face look for it
    headers["X-Error-Message"] = str(problem).encode("ascii", "replace").decode().replace("\n", " ")[:1000]
    if code := HUB_CODES.get(problem.code):
        headers["X-Error-Code"] = code
    if problem.status == 401:
        headers["WWW-Authenticate"] = "Bearer"
        headers["X-Error-Message"] = "Invalid credentials in Authorization header"
    if problem.status in (429, 503):
        headers["Retry-After"] = "5"
    if "allow" in problem.more:
        headers["Allow"] = str(problem.more["allow"])
    return JSONResponse(problem.document(), problem.status, headers=headers, media_type=MEDIA_TYPE)
