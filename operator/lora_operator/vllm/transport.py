"""One HTTP request to one engine: bounded in time and size, with the key and the CA that it wants."""

from __future__ import annotations

import errno
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import aiohttp
from yarl import URL

from lora_operator.vllm.answers import Endpoint, ErrorBody, parse_error
from lora_operator.vllm.engine_tls import PLAIN_HINT, EngineTls, why_no_tls
from lora_operator.vllm.errors import (
    EngineAnswerTooLarge,
    EngineTimeout,
    EngineUnauthorized,
    EngineUnreachable,
    bounded,
)
from lora_operator.vllm.patience import Patience

ANSWER_BYTES_MAX = 64 * 2**10
# uvicorn closes a connection that was idle for 5 s: let go first, so that no load is sent into a closing one
KEEPALIVE_SECONDS = 4.0

# Too few file descriptors or ports here say nothing about the engine.
_OWN_SHORTAGE = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL})


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: bytes

    @property
    def error(self) -> ErrorBody:
        return parse_error(self.body)


def new_session() -> aiohttp.ClientSession:
    """A session fit for many engines: no shared connection limit, no cookies, no proxies. The caller closes it."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, limit_per_host=0, keepalive_timeout=KEEPALIVE_SECONDS),
        cookie_jar=aiohttp.DummyCookieJar(),
        headers={"Accept-Encoding": "identity"},
        trust_env=False,
    )


class EngineTransport:
    """Sends requests over one session (see `new_session`). `connect_seconds` bounds the connection alone, where a
    request has effects."""

    def __init__(self, session: aiohttp.ClientSession, connect_seconds: float, tls: EngineTls | None) -> None:
        self._session = session
        self._connect_seconds = connect_seconds
        self._tls = tls

    async def send(
        self,
        endpoint: Endpoint,
        method: str,
        path: str,
        seconds: float,
        *,
        request: dict[str, Any] | None = None,
        bytes_max: int = ANSWER_BYTES_MAX,
    ) -> Answer:
        """One request with its bounded answer. Raises for broken transport and for 401 and 403, for nothing else."""
        engine, what = str(endpoint), f"{method} {path}"
        options: dict[str, Any] = {} if request is None else {"json": request}
        if endpoint.api_key:
            if not endpoint.api_key.isascii() or not endpoint.api_key.isprintable():
                raise EngineUnauthorized(
                    engine,
                    "its API key has characters that no HTTP header can carry (often a line break at its end); "
                    "correct the Secret, and restart the pod where it reads the same one",
                )
            options["headers"] = {"Authorization": f"Bearer {endpoint.api_key}"}
        try:
            url = URL.build(scheme=endpoint.scheme, host=endpoint.address, port=endpoint.port, path=path)
        except ValueError as error:
            raise EngineUnreachable(engine, f"its address is not valid: {bounded(str(error))}") from error
        if endpoint.secure:
            options["ssl"] = self._tls() if self._tls is not None else True
        # what is merely asked has one time-out; for what has effects it matters that they cannot have begun
        connect = None if request is None else min(self._connect_seconds, seconds)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=connect)
        try:
            async with (
                Patience(seconds),
                self._session.request(method, url, timeout=timeout, allow_redirects=False, **options) as response,
            ):
                answer = Answer(response.status, await _read(response, bytes_max))
        except aiohttp.ConnectionTimeoutError as error:
            raise EngineUnreachable(engine, f"no connection within {self._connect_seconds:g} s") from error
        except TimeoutError as error:
            raise EngineTimeout(engine, what, seconds) from error
        except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientConnectorSSLError) as error:
            raise EngineUnreachable(engine, why_no_tls(error)) from error
        except aiohttp.ClientConnectorError as error:
            refused = error.os_error.errno == errno.ECONNREFUSED
            why = (
                "connection refused: vLLM is still starting, has ended, or listens on another port"
                if refused
                else f"no connection: {bounded(error.os_error.strerror or str(error.os_error))}"
            )
            raise EngineUnreachable(
                engine, why, refused=refused, own_shortage=error.os_error.errno in _OWN_SHORTAGE
            ) from error
        except ValueError as error:  # of which aiohttp.InvalidURL is one, and a port above 65535 another
            raise EngineUnreachable(engine, f"its address is not valid: {bounded(str(error))}") from error
        except (aiohttp.ClientError, OSError) as error:
            plain = request is None and isinstance(error, aiohttp.ServerDisconnectedError) and not endpoint.secure
            text = bounded(f"the connection broke during {what}: {error or type(error).__name__}", endpoint.api_key)
            raise EngineUnreachable(engine, text + PLAIN_HINT * plain, maybe_received=True) from error
        except _TooLarge as error:
            raise EngineAnswerTooLarge(engine, what, bytes_max) from error
        if answer.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            given = "does not accept the API key it was given" if endpoint.api_key else "wants an API key"
            raise EngineUnauthorized(
                engine,
                f"{given} ({answer.status} to {what}); let --api-key or VLLM_API_KEY of the vLLM container name "
                "the Secret that holds its key",
            )
        return answer


class _TooLarge(Exception):
    pass


async def _read(response: aiohttp.ClientResponse, bytes_max: int) -> bytes:
    """The body; of an error only its beginning, as nothing depends on the rest."""
    chunks: list[bytes] = []
    size = 0
    async for chunk in response.content.iter_any():
        chunks.append(chunk)
        size += len(chunk)
        if size > bytes_max:
            response.close()
            if response.status == HTTPStatus.OK:
                raise _TooLarge
            break
    return b"".join(chunks)[:bytes_max]
