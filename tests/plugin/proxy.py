"""The API server's proxy to pods, before a stand-in for the rest. As the real one it keeps Authorization to itself."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
from aiohttp import web

from tests.core.api_server import ApiServer

KEPT = {"authorization", "host", "content-length"}


@asynccontextmanager
async def a_proxy(api: ApiServer, ports: dict[str, int]) -> AsyncIterator[str]:
    """Its URL. `ports`: where the agent of each pod really listens on loopback."""

    async with aiohttp.ClientSession() as session:

        async def forward(request: web.Request) -> web.Response:
            pod = request.match_info["pod"].partition(":")[0]
            headers = {name: value for name, value in request.headers.items() if name.lower() not in KEPT}
            url = f"http://127.0.0.1:{ports[pod]}/{request.match_info['path']}"
            async with session.request(request.method, url, headers=headers) as answer:
                return web.Response(
                    status=answer.status, body=await answer.read(), content_type=answer.content_type or None
                )

        app = web.Application()
        app.router.add_route("*", "/api/v1/namespaces/{namespace}/pods/{pod}/proxy/{path:.*}", forward)
        app.router.add_route("*", "/{path:.*}", api.answer)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        try:
            yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()
