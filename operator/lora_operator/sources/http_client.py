"""Asks stores that speak plain HTTP: every hop checked, everything bounded, every failure typed.

The token is sent to the origin that it was given for and to no other, and neither it nor any URL's query ever becomes
part of an error.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Self
from urllib.parse import urljoin, urlsplit

import aiohttp
from yarl import URL

from lora_operator.fetch.encodings import is_as_kept
from lora_operator.fetch.errors import FetchError
from lora_operator.fetch.hosts import HostRules
from lora_operator.fetch.pace import retry_after_seconds
from lora_operator.fetch.problems import Hiccup, of_client
from lora_operator.fetch.session import CheckedSession, known_problem, origin
from lora_operator.sources.base import SourceError

_CHUNK_BYTES = 64 << 10


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a store may take: to connect, between two pieces of an answer, and for one whole answer."""

    connect_seconds: float = 10.0
    idle_seconds: float = 20.0
    total_seconds: float = 60.0


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer, not a redirect unless it was asked for without following. Header names are in lower case."""

    status: int
    url: str = field(repr=False)
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(default=b"", repr=False)


class HttpClient:
    """The connections of one round at one store. Use as an async context manager.

    `home` is the URL that the user gave; `secret`, if any, is the header Authorization for its origin only. All methods
    raise SourceError, for what happens on the way: what a status means is the caller's business (see `refusal`).
    """

    def __init__(
        self, home: str, secret: str | None = None, *, rules: HostRules | None = None, patience: Patience | None = None
    ) -> None:
        self._home = home
        self._secret = secret
        self._rules = rules or HostRules()
        self.patience = patience or Patience()
        self._session: CheckedSession | None = None

    async def __aenter__(self) -> Self:
        self._session = CheckedSession(
            self._rules,
            connect_seconds=self.patience.connect_seconds,
            head_seconds=self.patience.total_seconds,
            idle_seconds=self.patience.idle_seconds,
            connections=16,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    @property
    def has_secret(self) -> bool:
        return self._secret is not None

    def authorization(self, url: str) -> dict[str, str]:
        """The header that may be sent to `url`: none, if it is elsewhere than the user said."""
        if self._secret is None or origin(url) != origin(self._home):
            return {}
        return {"Authorization": self._secret}

    async def ask(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        *,
        limit_bytes: int,
        follow: bool = True,
        whole: bool = True,
        anonymous: bool = False,
    ) -> Answer:
        """One request and its answer, without the Secret if `anonymous`. A body longer than `limit_bytes` is an error
        if it is wanted `whole`; otherwise its beginning is returned and the rest left unread."""
        opened = self.open(method, url, headers, follow, anonymous)
        try:
            async with asyncio.timeout(self.patience.total_seconds), opened as answer:
                body = bytearray()
                while len(body) < limit_bytes + whole and (part := await answer.content.read(_CHUNK_BYTES)):
                    body += part
                if len(body) > limit_bytes and whole:
                    raise SourceError(
                        "AnswerTooLarge",
                        f"{self._shown(url)}: the answer is longer than the {limit_bytes} bytes that are read: correct "
                        "the URL",
                        retryable=False,
                    )
                if method != "HEAD":
                    _check_encoding(answer, self._shown(url))
                return Answer(answer.status, str(answer.url), _plain(answer), bytes(body[:limit_bytes]))
        except TimeoutError:
            problem = SourceError(
                "Stalled",
                f"{self._shown(url)} gave no whole answer within {self.patience.total_seconds:g} seconds: it is asked "
                "again, else check the network and the server",
                retryable=True,
            )
        raise problem

    @asynccontextmanager
    async def open(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        follow: bool = True,
        anonymous: bool = False,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """The answer to one request, after redirects if they are to be followed, with its body still to be read."""
        assert self._session is not None, "use `async with`"
        what = self._shown(url)

        def sent(target: URL) -> dict[str, str]:
            return {**(headers or {}), **({} if anonymous else self.authorization(str(target)))}

        try:
            async with await self._session.send(method, what, url, sent, follow=follow) as answer:
                yield answer
            return
        except (FetchError, Hiccup) as error:
            known = known_problem(error)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            known = known_problem(of_client(what, error))
        # outside of the handler: what was caught may carry a signed URL, and would be the context of this
        raise SourceError(known.reason, known.message, retryable=known.retryable)

    def _shown(self, url: str) -> str:
        """Elsewhere than the user said, a path may be part of a signature."""
        try:
            return shown(url) if origin(url) == origin(self._home) else shown(urljoin(url, "/"))
        except ValueError:
            return "the URL"


def shown(url: str) -> str:
    """A URL as people may see it: without user, query and fragment."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return repr(f"{parts.scheme}://{host}{parts.path}"[:300])


def refusal(url: str, status: int, headers: Mapping[str, str], *, has_secret: bool) -> SourceError:
    """What an answer with an error status means, for a store of which nothing else is known."""
    what = shown(url)
    if status == 401:
        by_password = headers.get("www-authenticate", "").lower().startswith("basic")
        keys = "keys 'username' and 'password'" if by_password else "key 'token'"
        advice = (
            f"the Secret is refused: put valid credentials into its {keys}"
            if has_secret
            else f"credentials are needed: name a Secret with the {keys} in credentialsSecretRef"
        )
        return SourceError("AuthenticationFailed", f"{what}: {advice} (status 401)", retryable=False)
    if status == 403:
        return SourceError(
            "AccessDenied",
            f"{what}: access is denied (status 403): "
            + ("let the Secret's owner read it" if has_secret else "make it public, or name a Secret"),
            retryable=False,
        )
    if status in (404, 410):
        return SourceError("NotFound", f"{what} does not exist (status {status}): correct the URL", retryable=False)
    if status == 429:
        return SourceError(
            "RateLimited",
            f"{what}: the server answers that it is asked too often (status 429): it is asked again later",
            retryable=True,
            retry_after_seconds=retry_after(headers),
        )
    if status >= 500 or status == 408:
        return SourceError(
            "ServerError",
            f"{what}: the server fails (status {status}): it is asked again later",
            retryable=True,
            retry_after_seconds=retry_after(headers),
        )
    return SourceError("BadAnswer", f"{what}: the server answers with status {status}: check the URL", retryable=False)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """How many seconds a server asks to be left alone, by Retry-After or, as the hub does, by RateLimit."""
    reset = re.search(r";\s*t=(\d{1,9})", headers.get("ratelimit", ""))
    return retry_after_seconds(headers.get("retry-after") or (reset[1] if reset else None))


def modified_at(headers: Mapping[str, str]) -> float | None:
    """Last-Modified as Unix time."""
    try:
        return parsedate_to_datetime(headers["last-modified"]).timestamp()
    except (KeyError, ValueError, TypeError, OverflowError):
        return None


def _plain(answer: aiohttp.ClientResponse) -> dict[str, str]:
    return {name.lower(): value for name, value in answer.headers.items()}


def _check_encoding(answer: aiohttp.ClientResponse, what: str) -> None:
    if answer.status < 300 and not is_as_kept(answer.headers):
        encoding = answer.headers["Content-Encoding"]
        raise SourceError(
            "BadAnswer",
            f"{what} comes encoded as {encoding[:40]!r} although that is not asked for: switch it off",
            retryable=False,
        )
