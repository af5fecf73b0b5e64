"""The HTTP session of sources and fetches: every hop checked, nothing decoded, no cookie kept, each failure typed."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

import aiohttp
from yarl import URL

from lora_operator.fetch.errors import FetchError
from lora_operator.fetch.hosts import HostRules
from lora_operator.fetch.problems import Hiccup, of_client
from lora_operator.fetch.proxies import proxy_for
from lora_operator.fetch.resolver import CheckedResolver
from lora_operator.process.authorities import context_for

MAX_REDIRECTS = 5
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_DRAINED_BYTES = 64 << 10
_DEFAULT_PORTS = {"http": 80, "https": 443}


class CheckedSession:
    """Made inside of a running event loop. Of an answer the head has to come within `head_seconds`, and its body
    never pause for `idle_seconds`. `tls` None: the system's authorities, and those of the rules.
    """

    def __init__(
        self,
        rules: HostRules,
        *,
        connect_seconds: float,
        head_seconds: float,
        idle_seconds: float | None = None,
        connections: int = 0,
        redirects: int = MAX_REDIRECTS,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._rules = rules
        self._tls = tls
        self._redirects = redirects
        self._head_seconds = head_seconds
        self._session = aiohttp.ClientSession(
            # names are asked for anew, so that a check holds for what is connected to
            connector=aiohttp.TCPConnector(limit=connections, use_dns_cache=False, resolver=CheckedResolver(rules)),
            cookie_jar=aiohttp.DummyCookieJar(),  # what one answer sets must not go along with another tenant's
            headers={"Accept-Encoding": "identity", "User-Agent": "lora-operator"},
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=connect_seconds, sock_read=idle_seconds),
            auto_decompress=False,
            trust_env=False,
            read_bufsize=256 << 10,
        )

    async def close(self) -> None:
        await self._session.close()

    async def send(
        self, method: str, what: str, url: str, headers: Callable[[URL], Mapping[str, str]], *, follow: bool = True
    ) -> aiohttp.ClientResponse:
        """The answer, after redirects if they are to be followed, for the caller to close; its body is still to come.

        `headers` are asked for at each hop, for its URL. `what` names the whole to people. Raises FetchError, Hiccup.
        """
        first = target = None
        seen: set[URL] = set()
        try:
            first = target = _parsed(url)
            while True:
                seen.add(target)
                self._rules.check(str(target))
                response = await self._ask(method, target, headers(target))
                location = response.headers.get("Location")
                if not follow or response.status not in _REDIRECTS or location is None:
                    return response
                response.close()
                target = self._next(target, location, seen)
        except (aiohttp.ClientError, OSError, ValueError, FetchError) as error:
            if target is not None and origin(str(target)) != origin(str(first)):
                what += f", which leads to {target.host!r},"
            problem = of_client(what, error)
        # outside of the handler: what was caught may carry the URL, and would be the context of this
        raise problem

    async def _ask(self, method: str, url: URL, headers: Mapping[str, str]) -> aiohttp.ClientResponse:
        async with asyncio.timeout(self._head_seconds):
            response = await self._session.request(
                method,
                url,
                headers=headers,
                allow_redirects=False,
                ssl=context_for(self._rules.ca_file) if self._tls is None else self._tls,
                proxy=proxy_for(str(url)),
            )
            if response.status in _REDIRECTS and (response.content_length or 0) <= _DRAINED_BYTES:
                await response.read()  # so that the connection can be used again
            return response

    def _next(self, url: URL, location: str, seen: set[URL]) -> URL:
        following = url.join(_parsed(location))
        if url.scheme == "https" and following.scheme == "http":
            raise FetchError(
                "ForbiddenRedirect", "it redirects from https to plain http: have it stay with https", retryable=False
            )
        if following in seen or len(seen) > self._redirects:
            raise FetchError(
                "RedirectLoop",
                f"it redirects in circles or more than {self._redirects} times: give the final URL",
                retryable=False,
            )
        return following


def origin(url: str) -> tuple[str, str, int]:
    """Scheme, host and port of a URL."""
    parts = urlsplit(url)
    return parts.scheme, (parts.hostname or "").lower(), parts.port or _DEFAULT_PORTS.get(parts.scheme, 0)


def known_problem(problem: FetchError | Hiccup) -> FetchError:
    """What may be told."""
    return problem.error if isinstance(problem, Hiccup) else problem


def _parsed(text: str) -> URL:
    """As it stands: a signature covers its very spelling."""
    try:
        url = URL(text, encoded=True)
        url.port  # noqa: B018 - a port that is none is noticed only here
    except ValueError:
        raise aiohttp.InvalidURL("") from None
    return url
