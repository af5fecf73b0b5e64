"""The application: routes, what is answered where something fails, and how much a client may send."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import PlainTextResponse, Response
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from lora_library.names import InvalidName
from lora_library.problems import DOCUMENTED, Problem
from lora_library.stores.base import StoreError
from lora_library.web import admin, hub, hub_commits, loras, me, page, resumable
from lora_library.web.bounds import Bounds
from lora_library.web.context import Library
from lora_library.web.refusing import problem_response
from lora_operator import __version__
from lora_operator.kube.client import KubeError

log = logging.getLogger(__name__)


def application(library: Library) -> FastAPI:
    """Everything below /api, the web page /library, and /healthz and /readyz for the kubelet."""
    app = FastAPI(
        title="LoRA library", version=__version__, docs_url=None, redoc_url=None,
        description="Upload adapters, and call them a moment later.", redirect_slashes=False,
        responses=dict(DOCUMENTED),
    )  # fmt: skip
    app.state.library = library
    app.add_middleware(Bounds, library.metrics)
    for prefix, shown in (("/api/loras", True), ("/api/user-loras", False)):
        app.include_router(me.ROUTES, prefix=prefix, tags=["adapters"], include_in_schema=shown)
        app.include_router(loras.ROUTES, prefix=prefix, tags=["adapters"], include_in_schema=shown)
        app.include_router(resumable.ROUTES, prefix=f"{prefix}/uploads", tags=["uploads"], include_in_schema=shown)
    for router in (hub.ROUTES, hub_commits.ROUTES):
        app.include_router(router, include_in_schema=False)
    app.include_router(admin.ROUTES, prefix="/api/admin/loras", tags=["administration"])
    app.include_router(page.ROUTES)
    _probes(app, library)
    _failures(app)
    return app


def _probes(app: FastAPI, library: Library) -> None:
    @app.get("/healthz", include_in_schema=False)
    async def healthz() -> Response:
        return PlainTextResponse("ok\n")

    @app.get("/readyz", include_in_schema=False)
    async def readyz() -> Response:
        try:
            await library.database.ping()
        except (SQLAlchemyError, OSError):
            return PlainTextResponse("the database does not answer\n", 503)
        return PlainTextResponse("ok\n")


def _failures(app: FastAPI) -> None:
    def on(kind: type[BaseException], answer: Callable[[Any], Problem]) -> None:
        async def handler(_: Request, error: Exception) -> Response:
            return problem_response(answer(error))

        app.add_exception_handler(kind, handler)  # type: ignore[arg-type]

    on(Problem, lambda problem: problem)
    on(InvalidName, lambda error: Problem("INVALID_NAME", str(error)))
    on(RequestValidationError, _invalid)
    on(HTTPException, _refused)
    on(ClientDisconnect, lambda _: Problem("INVALID_REQUEST", "the client went before its body had come"))
    for kind in (SQLAlchemyError, ConnectionError, TimeoutError):
        on(kind, _database)
    on(StoreError, _store)
    on(KubeError, _cluster)
    on(Exception, _defect)


def _invalid(error: RequestValidationError) -> Problem:
    first = error.errors()[0]
    where = ".".join(str(each) for each in first.get("loc", ())[1:])
    # an id that can be no adapter's is as little there as another's
    if first.get("loc", ())[:2] == ("path", "lora_id"):
        return Problem("LORA_NOT_FOUND", "there is no adapter with this id among yours")
    return Problem("INVALID_REQUEST", f"{where or 'the request'}: {str(first.get('msg', 'cannot be read'))[:300]}")


def _refused(error: HTTPException) -> Problem:
    codes = {404: "NOT_FOUND", 405: "METHOD_NOT_ALLOWED", 413: "REQUEST_TOO_LARGE"}
    allowed = (error.headers or {}).get("Allow") or (error.headers or {}).get("allow")
    more = {"allow": allowed} if allowed else {}
    return Problem(codes.get(error.status_code, "INVALID_REQUEST"), str(error.detail)[:300], **more)


def _database(error: Exception) -> Problem:
    cause = error.orig if isinstance(error, DBAPIError) else error
    log.error("the database failed: %s: %s", type(error).__name__, str(cause)[:300])
    return Problem("DATABASE_UNAVAILABLE", "the library's database does not answer; what is loaded goes on: try again")


def _store(error: StoreError) -> Problem:
    log.error("the store failed: %s", error)
    return Problem("STORE_UNAVAILABLE", "the store of the adapters does not answer: try again")


def _cluster(error: KubeError) -> Problem:
    log.error("the API server failed: %s", error)
    return Problem("CLUSTER_UNAVAILABLE", "the API server does not answer: try again")


def _defect(error: Exception) -> Problem:
    log.error("a request failed by a defect", exc_info=error)
    return Problem("INTERNAL", "this is a defect; the library's log says more")
