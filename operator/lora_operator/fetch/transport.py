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
from lora_operator.fetch.problems import Hiccup, of_client, of_status
from lora_operator.fetch.proxies import proxy_for
from lora_operator.fetch.resolver import CheckedResolver
from lora_operator.process.authorities import context_for

T = TypeVar("T")

DISK_THREADS = 4
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_DRAINED_BYTES = 64 << 10


class Transport:
    """Made inside of a running event loop. `tls` None: the system's authorities, and those of the rules."""

    def __init__(self, rules: HostRules, limits: Limits, meter: Meter, tls: ssl.SSLContext | None = None) -> None:
        self.rules = rules
        self._tls = tls
        self.limits = limits
        self.meter = meter
        self.bandwidth = Bandwidth(limits.bytes_per_second)
        self.slots = asyncio.Semaphore(limits.connections)
        self._threads = ThreadPoolExecutor(DISK_THREADS, thread_name_prefix="fetch")
        self._session = aiohttp.ClientSession(
            # `slots` limit the requests; names are asked for anew, so that a check holds for what is connected to
            connector=aiohttp.TCPConnector(
                limit=0,
                limit_per_host=0,
                use_dns_cache=False,
                resolver=CheckedResolver(rules),
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={"Accept-Encoding": "identity", "User-Agent": "lora-operator"},
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=limits.connect_seconds),
            auto_decompress=False,
            trust_env=False,
            read_bufsize=256 << 10,
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
        response = await self._follow(what, link, headers)
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

    async def _follow(self, what: str, link: Link, headers: Mapping[str, str]) -> aiohttp.ClientResponse:
        url, own = _parsed(what, link.url), link.headers
        seen = {url}
        self._check(what, url)
        for _ in range(self.limits.redirects + 1):
            response = await self._ask(f"{what}: {host_of(url)}", url, {**own, **headers})
            if response.status not in _REDIRECTS:
                return response
            location = response.headers.get("Location", "")
            response.close()
            target = url.join(_parsed(what, location))
            self._check(what, target)
            if target.origin() != url.origin():
                own = {}  # they are for the first host's eyes
            if url.scheme == "https" and target.scheme != "https":
                raise FetchError(
                    "ForbiddenRedirect",
                    f"{what}: {host_of(url)} redirects from https to {target.scheme[:20]}: correct the link",
                    retryable=False,
                )
            url = target
            if url in seen:
                break
            seen.add(url)
        raise FetchError(
            "RedirectLoop",
            f"{what}: {host_of(url)} redirects in circles or more than {self.limits.redirects} times: correct the link",
            retryable=False,
        )

    def _check(self, what: str, url: URL) -> None:
        problem: FetchError | Hiccup
        try:
            return self.rules.check(str(url))
        except FetchError as error:
            problem = of_client(what, error)
        raise problem

    async def _ask(self, what: str, url: URL, headers: Mapping[str, str]) -> aiohttp.ClientResponse:
        problem: FetchError | Hiccup
        try:
            async with asyncio.timeout(self.limits.connect_seconds + self.limits.stall_seconds):
                tls = context_for(self.rules.ca_file) if self._tls is None else self._tls
                response = await self._session.get(
                    url, headers=headers, allow_redirects=False, ssl=tls, proxy=proxy_for(str(url))
                )
                if response.status in _REDIRECTS and (response.content_length or 0) <= _DRAINED_BYTES:
                    await response.read()  # so that the connection can be used again
                return response
        except (aiohttp.ClientError, OSError, ValueError, FetchError) as error:
            problem = of_client(what, error)
        # outside of the handler: what was caught may carry the URL, and would be the context of this
        raise problem


def host_of(url: URL) -> str:
    """What may be shown of a URL."""
    host = url.host or "?"
    return host if url.is_default_port() else f"{host}:{url.port}"


def _parsed(what: str, text: str) -> URL:
    """As it stands: a signature covers its very spelling."""
    url = None
    try:
        url = URL(text, encoded=True)
        url.port  # noqa: B018 - a port that is none is noticed only here
    except ValueError:
        url = None
    if url is None:
        raise FetchError("ForbiddenUrl", f"{what} was given by a URL that is none: correct it", retryable=False)
    return url
