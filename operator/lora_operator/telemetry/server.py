"""The operator's own small HTTP servers: /healthz and /readyz for the kubelet, /metrics for Prometheus."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

from aiohttp import web

from lora_operator.process.listening import Runner, listen

log = logging.getLogger(__name__)


class ServeError(Exception):
    """A port could not be opened."""


async def serve_health(
    host: str,
    port: int,
    *,
    plan_age: Callable[[], float | None],
    unready: Callable[[], str],
    standing_by: Callable[[], bool],
    max_age: float,
) -> web.AppRunner:
    """/healthz is 503 when the last plan is too old (the loop is stuck), /readyz also before the first plan. One that
    stands by is ready: it takes over when it has to.
    """

    async def healthz(_: web.Request) -> web.Response:
        age = plan_age()
        if age is not None and age > max_age:
            return web.Response(status=503, text=f"the last plan is {age:.0f} s old; the planning loop is stuck\n")
        return web.Response(text="no plan yet\n" if age is None else f"ok, last plan {age:.1f} s ago\n")

    async def readyz(request: web.Request) -> web.Response:
        if standing_by():
            return web.Response(text="ok, standing by\n")
        why = unready()
        return web.Response(status=503, text=why + "\n") if why else await healthz(request)

    return await _serve(host, port, {"/healthz": healthz, "/readyz": readyz})


class Exposed(Protocol):
    def exposition(self) -> bytes: ...


async def serve_metrics(host: str, port: int, metrics: Exposed) -> web.AppRunner:
    """/metrics in Prometheus' text format."""

    async def exposition(_: web.Request) -> web.Response:
        return web.Response(body=metrics.exposition(), headers={"Content-Type": "text/plain; version=0.0.4"})

    return await _serve(host, port, {"/metrics": exposition})


async def _serve(host: str, port: int, routes: dict[str, Callable[[web.Request], object]]) -> web.AppRunner:
    app = web.Application()
    for path, handler in routes.items():
        app.router.add_get(path, handler)  # type: ignore[arg-type]
    runner = Runner(app, lambda status, text: web.Response(status=status, text=text + "\n"))
    await runner.setup()
    try:
        await listen(runner, host, port)
    except OSError as error:
        await runner.cleanup()
        raise ServeError(f"cannot listen on {host}:{port}: {error}; choose another port") from error
    return runner
