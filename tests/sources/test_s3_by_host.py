"""Stores that know a bucket by its host's name alone, as the public clouds beside AWS do by now."""

from __future__ import annotations

import secrets
import socket
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from e2e.stores.s3 import KEYS, S3Server
from lora_operator.sources import Credentials
from lora_operator.sources.s3 import S3Source
from tests.sources.adapter_bytes import a_request, adapter
from tests.sources.s3_servers import only_moto

DOMAIN = "store.test"
_REFUSED = "<?xml version='1.0'?><Error><Code>SecondLevelDomainForbidden</Code><Message>no</Message></Error>"
pytestmark = only_moto  # signatures cover the host, and moto takes them as they come


class ByHost:
    """Before a server of buckets by path: refuses paths, and passes on what has the bucket in its host."""

    def __init__(self, behind: str) -> None:
        self.hosts: list[str] = []
        self._behind = behind

    async def answer(self, request: web.Request) -> web.StreamResponse:
        host = request.host.rpartition(":")[0]
        self.hosts.append(host)
        bucket = host.removesuffix(DOMAIN).rstrip(".")
        if not bucket:
            return web.Response(status=403, text=_REFUSED, content_type="application/xml")
        url = f"{self._behind}/{bucket}{request.raw_path}"
        headers = {name: value for name, value in request.headers.items() if name != "Host"}
        async with (
            aiohttp.ClientSession(auto_decompress=False) as session,
            session.request(request.method, url, headers=headers) as answer,
        ):
            kept = {name: value for name, value in answer.headers.items() if name != "Transfer-Encoding"}
            return web.Response(status=answer.status, headers=kept, body=await answer.read())


@pytest.fixture
async def by_host(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[ByHost, str]]:
    known = socket.getaddrinfo

    def all_here(host: Any, *more: Any, **named: Any) -> Any:
        return known("127.0.0.1" if str(host).endswith(DOMAIN) else host, *more, **named)

    monkeypatch.setattr(socket, "getaddrinfo", all_here)
    store, application = ByHost(s3_server.endpoint), web.Application()
    application.router.add_route("*", "/{path:.*}", store.answer)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield store, f"http://{DOMAIN}:{runner.addresses[0][1]}"
    await runner.cleanup()


async def test_a_store_that_refuses_paths_is_addressed_by_host_from_then_on(
    s3_server: S3Server, by_host: tuple[ByHost, str]
) -> None:
    store, endpoint = by_host
    bucket = f"bucket-{secrets.token_hex(6)}"
    s3_server.put(bucket, adapter("a"))
    request = a_request("s3", bucket, endpoint=endpoint, credentials=Credentials(tuple(KEYS.items())))
    source = S3Source(settle_seconds=0)
    (found,) = (await source.resolve(request, None)).adapters
    assert store.hosts[0] == DOMAIN and set(store.hosts[1:]) == {f"{bucket}.{DOMAIN}"}
    (link,) = (await source.locate(request, found)).links  # type: ignore[union-attr]
    assert link.url.startswith(f"http://{bucket}.{DOMAIN}")
    assert (await source.resolve(request, None)).adapters == (found,)
    assert store.hosts.count(DOMAIN) == 1
