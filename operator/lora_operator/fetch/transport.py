"""What all fetches of a process share: HTTP session, rules for hosts, limits, and threads for the disk."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TypeVar

import aiohttp
from yarl import URL

from lora_operator.fetch.encodings import is_as_kept
from lora_operator.fetch.errors import FetchError
from lora_operator.fetch.hosts import HostRules
from lora_operator.fetch.limits import Limits
from lora_operator.fetch.manifest import Link
from lora_operator.fetch.meter import Meter
from lora_operator.fetch.pace import Bandwidth, retry_after_seconds
from lora_operator.fetch.problems import of_status
from lora_operator.fetch.session import CheckedSession, origin

T = TypeVar("T")

DISK_THREADS = 4


class Transport:
    """Made inside of a running event loop. `tls` None: the system's authorities, and those of the rules."""

    def __init__(self, rules: HostRules, limits: Limits, meter: Meter, tls: ssl.SSLContext | None = None) -> None:
        self.limits = limits
        self.meter = meter
        self.bandwidth = Bandwidth(limits.bytes_per_second)
        self.slots = asyncio.Semaphore(limits.connections)
        self._threads = ThreadPoolExecutor(DISK_THREADS, thread_name_prefix="fetch")
        # `slots` limit the requests
        self._session = CheckedSession(
            rules,
            connect_seconds=limits.connect_seconds,
            head_seconds=limits.connect_seconds + limits.stall_seconds,
            redirects=limits.redirects,
            tls=tls,
        )

    async def close(self) -> None:
        """Close the connections and end the threads."""
        await self._session.close()
        await asyncio.to_thread(self._threads.shutdown)

    async def in_thread(
        self,
        work: Callable[..., T],
        *arguments: object,
        stop: Callable[[], None] = lambda: None,
        undo: Callable[[T], None] = lambda _: None,
    ) -> T:
        """Do what blocks. When cancelled, call `stop` and wait for it all the same: it may use what is closed next.

        `undo` is called with what came out of it when nobody is there any more to take it.
        """
        future = asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            stop()
            await asyncio.wait([future])
            if not future.cancelled() and future.exception() is None:
                undo(future.result())
            raise

    @asynccontextmanager
    async def get(self, what: str, link: Link, headers: Mapping[str, str]) -> AsyncIterator[aiohttp.ClientResponse]:
        """The answer to a GET, 200 or 206, after redirects. `what` names the file. Raises FetchError and Hiccup."""
        response = await self._session.send(
            "GET",
            f"{what}: {_host_in(link.url)}",
            link.url,
            # those of the link are for the first host's eyes
            lambda url: {**(link.headers if origin(str(url)) == origin(link.url) else {}), **headers},
        )
        try:
            what = f"{what}: {host_of(response.url)}"
            if response.status not in (200, 206):
                raise of_status(what, response.status, retry_after_seconds(response.headers.get("Retry-After")))
            if not is_as_kept(response.headers):
                encoding = response.headers["Content-Encoding"]
                raise FetchError(
                    "BadAnswer", f"{what} sends the file encoded as {encoding[:40]!r}: switch that off", retryable=False
                )
            yield response
        finally:
            response.close()


def _host_in(url: str) -> str:
    try:
        return host_of(URL(url, encoded=True))
    except ValueError:
        return "?"


def host_of(url: URL) -> str:
    """What may be shown of a URL."""
    host = url.host or "?"
    return host if url.is_default_port() else f"{host}:{url.port}"
