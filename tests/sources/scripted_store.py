"""A server that gives the same answer to everything, and what must not show up anywhere when it does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from aiohttp import web

from lora_operator.sources import SourceError


@dataclass
class Scripted:
    """`status` None: never answer. `asked` are the requests so far, with their headers."""

    status: int | None = 200
    body: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    asked: list[tuple[str, Mapping[str, str]]] = field(default_factory=list)
    endpoint: str = ""

    async def _answer(self, request: web.Request) -> web.Response:
        self.asked.append((f"{request.method} {request.path_qs}", dict(request.headers)))
        if self.status is None:
            await asyncio.Event().wait()
        return web.Response(
            status=self.status or 0, text=self.body, headers=self.headers, content_type="application/xml"
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Scripted]:
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self._answer)
        runner = web.AppRunner(application, shutdown_timeout=0.1, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        assert runner.addresses
        self.endpoint = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            await runner.cleanup()


async def failure(
    call: Callable[[], Awaitable[object]], caplog: pytest.LogCaptureFixture, secrets: Collection[str]
) -> SourceError:
    """The SourceError of `call`, once it is known that neither it nor the log has any of `secrets`."""
    caplog.set_level("DEBUG")
    with pytest.raises(SourceError) as caught:
        await call()
    texts = [caplog.text]
    error: BaseException | None = caught.value
    while error is not None:
        texts += [str(error), repr(error)]
        error = error.__cause__ or error.__context__
    for secret in secrets:
        assert not any(secret in text for text in texts), f"{secret[:4]}… shows up"
    assert "\n" not in str(caught.value)
    return caught.value
