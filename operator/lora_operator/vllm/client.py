"""The HTTP client for all engines: list, load, unload, health, release, metrics.

Outcomes are decided by status, then by error type, then by what /v1/models lists, never by the wording of a message,
which vLLM changes between releases. Every request has a time-out and every answer a largest size.
"""

from __future__ import annotations

import asyncio
import errno
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from typing import Any

import aiohttp
from yarl import URL

from lora_operator.vllm.answers import Endpoint, EngineModel, ErrorBody, parse_error, parse_models, parse_version
from lora_operator.vllm.engine_tls import PLAIN_HINT, EngineTls, why_no_tls
from lora_operator.vllm.errors import (
    EngineAnswerInvalid,
    EngineAnswerTooLarge,
    EngineError,
    EngineFailing,
    EngineTimeout,
    EngineUnauthorized,
    EngineUnreachable,
    LoadRefused,
    ModelListTooLong,
    NameTakenByOther,
    RuntimeUpdatingDisabled,
    UnloadRefused,
    bounded,
)
from lora_operator.vllm.metrics import EngineMetrics, parse_metrics
from lora_operator.vllm.patience import Patience

__all__ = ["Endpoint", "EngineClient", "EngineModel", "LoadOutcome", "Timeouts", "UnloadOutcome", "new_session"]

# One entry of /v1/models takes about 600 bytes, and 4,000 names on a pod are far beyond what vLLM can hold in memory.
LIST_BYTES_MAX = 4 * 2**20
LIST_ENTRIES_MAX = 4096
LIST_BYTES_AT_ONCE = 64 * 2**10  # takes a millisecond to read
METRICS_BYTES_MAX = 8 * 2**20
METRICS_BYTES_AT_ONCE = 256 * 2**10  # takes some milliseconds to read
ANSWER_BYTES_MAX = 64 * 2**10
# uvicorn closes a connection that was idle for 5 s: let go first, so that no load is sent into a closing one
KEEPALIVE_SECONDS = 4.0

# Refusals that the same request meets again. All others may come from the moment: a status cannot tell a corrupt
# adapter from a busy disk (a failed load is 400 BadRequestError before 0.18 and 500 since).
_FINAL_TYPES = frozenset({"InvalidUserInput", "Bad Request"})
_FINAL_STATUSES = frozenset({405, 410, 413, 414, 415, 422, 501})

# Too few file descriptors or ports here say nothing about the engine.
_OWN_SHORTAGE = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL})

_HINTS = {
    400: "correct what it names",
    404: "check that the adapter volume is mounted in the pod at the path that the annotation adapter-root says",
    500: "see the log of the vLLM container",
}


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds. `connect` bounds the connection alone, the others a whole request with its answer."""

    connect: float = 2.0
    probe: float = 2.0  # models, version, health
    metrics: float = 5.0
    load: float = 120.0
    unload: float = 30.0


class LoadOutcome(StrEnum):
    """How a load came to be right."""

    LOADED = "Loaded"
    ALREADY_LOADED = "AlreadyLoaded"  # refused, as it is listed with this very path
    CONFIRMED = "Confirmed"  # the answer was lost, and /v1/models lists it with this path


class UnloadOutcome(StrEnum):
    """How a name came to be gone."""

    UNLOADED = "Unloaded"
    WAS_ABSENT = "WasAbsent"
    CONFIRMED = "Confirmed"  # the answer was lost or an error, and /v1/models does not list it


@dataclass(frozen=True, slots=True)
class _Answer:
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


class EngineClient:
    """Talks to any number of engines over one session (see `new_session`). Holds no state of its own.

    Every method raises the errors of `lora_operator.vllm.errors` and no other.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        *,
        timeouts: Timeouts | None = None,
        tls: EngineTls | None = None,
    ) -> None:
        self._session = session
        self._tls = tls
        self._timeouts = timeouts or Timeouts()

    async def models(self, endpoint: Endpoint) -> tuple[EngineModel, ...]:
        """What the engine lists: its base models (`parent` None), then adapters in load order.

        Raises:
            ModelListTooLong: it is longer than is read.
        """
        try:
            body = (await self._get(endpoint, "/v1/models", self._timeouts.probe, LIST_BYTES_MAX)).body
        except EngineAnswerTooLarge as error:
            raise ModelListTooLong(str(endpoint), f"more than {LIST_BYTES_MAX} bytes") from error
        # three for each entry; a process that reads many more is held up by it, whatever thread does it
        if body.count(b"{") + body.count(b"[") > 4 * LIST_ENTRIES_MAX:
            raise ModelListTooLong(str(endpoint), f"more than the {LIST_ENTRIES_MAX} names that are read")
        try:
            large = len(body) > LIST_BYTES_AT_ONCE  # no single engine may hold the event loop up
            models = await asyncio.to_thread(parse_models, body) if large else parse_models(body)
        except ValueError as error:
            raise _not_vllm(endpoint, "GET /v1/models", f"{error}") from error
        if len(models) > LIST_ENTRIES_MAX:
            raise ModelListTooLong(str(endpoint), f"{len(models)} names, where {LIST_ENTRIES_MAX} are read")
        return models

    async def version(self, endpoint: Endpoint) -> str:
        """The engine's release as it says it, such as `0.32.0` or `0.31.1.dev3+gabc`."""
        answer = await self._get(endpoint, "/version", self._timeouts.probe)
        try:
            return parse_version(answer.body)
        except ValueError as error:
            raise _not_vllm(endpoint, "GET /version", f"{error}") from error

    async def health(self, endpoint: Endpoint) -> bool:
        """Whether /health answers 200. False means that it answered something else."""
        answer = await self._send(endpoint, "GET", "/health", self._timeouts.probe)
        return answer.status == HTTPStatus.OK

    async def metrics(self, endpoint: Endpoint) -> EngineMetrics:
        """Activity and load, from the engine's Prometheus page."""
        body = (await self._get(endpoint, "/metrics", self._timeouts.metrics, METRICS_BYTES_MAX)).body
        if len(body) > METRICS_BYTES_AT_ONCE:  # no single engine may hold the event loop up
            return await asyncio.to_thread(_read_metrics, body)
        return _read_metrics(body)

    async def load(self, endpoint: Endpoint, name: str, path: str) -> LoadOutcome:
        """Load the adapter in folder `path` (as the engine sees it) under `name`.

        Raises:
            NameTakenByOther: the name is listed with another path, or is the base model's.
            LoadRefused: the engine said no, and does not list it.
            RuntimeUpdatingDisabled, EngineUnauthorized: nothing can be loaded there as it is set up.
            EngineTimeout: no answer, and not listed (yet): it may still happen.
            EngineUnreachable: never connected, or the connection broke and it is not listed.
        """
        request = {"lora_name": name, "lora_path": path}
        try:
            answer = await self._post(endpoint, "/v1/load_lora_adapter", request, self._timeouts.load)
        except (EngineTimeout, EngineUnreachable) as lost:
            listed = await self._look_up(endpoint, name, lost)
            if listed is None:
                if isinstance(lost, EngineTimeout):
                    raise
                # an idle connection that the engine closed as it was used again; twice in a row it is another matter
                answer = await self._post(endpoint, "/v1/load_lora_adapter", request, self._timeouts.load)
            elif listed.root == path and not listed.is_base:
                return LoadOutcome.CONFIRMED
            else:
                raise NameTakenByOther(str(endpoint), name, listed.root, is_base=listed.is_base) from lost
        if answer.status == HTTPStatus.OK:
            return LoadOutcome.LOADED
        error = answer.error
        if answer.status == HTTPStatus.NOT_FOUND and error.is_bare_not_found:
            raise RuntimeUpdatingDisabled(str(endpoint))
        refusal = self._load_refused(endpoint, name, answer.status, error)
        try:
            listed = await self._find(endpoint, name)
        except EngineError as unknown:
            if answer.status == HTTPStatus.BAD_REQUEST and error.type == "InvalidUserInput":
                raise  # most likely loaded already: whether with this path cannot be told now
            raise refusal from unknown  # it may be this very adapter that the engine died of
        if listed is None:
            raise refusal
        if listed.root == path and not listed.is_base:
            return LoadOutcome.ALREADY_LOADED
        raise NameTakenByOther(str(endpoint), name, listed.root, is_base=listed.is_base) from refusal

    async def unload(self, endpoint: Endpoint, name: str) -> UnloadOutcome:
        """Make the engine forget `name`. Requests that are running with it go on with its weights.

        Raises:
            UnloadRefused: the engine said no, and still lists it.
            RuntimeUpdatingDisabled, EngineUnauthorized: nothing can be unloaded there as it is set up.
            EngineTimeout, EngineUnreachable: no answer, and whether it is still listed could not be seen, or it is.
        """
        request = {"lora_name": name}
        try:
            answer = await self._post(endpoint, "/v1/unload_lora_adapter", request, self._timeouts.unload)
        except (EngineTimeout, EngineUnreachable) as lost:
            if await self._look_up(endpoint, name, lost) is None:
                return UnloadOutcome.CONFIRMED
            if isinstance(lost, EngineTimeout):
                raise
            answer = await self._post(endpoint, "/v1/unload_lora_adapter", request, self._timeouts.unload)
        if answer.status == HTTPStatus.OK:
            return UnloadOutcome.UNLOADED
        error = answer.error
        if answer.status == HTTPStatus.NOT_FOUND:
            if error.is_bare_not_found:
                raise RuntimeUpdatingDisabled(str(endpoint))
            if error.type == "NotFoundError":
                return UnloadOutcome.WAS_ABSENT
        detail = bounded(error.message, endpoint.api_key)
        refusal = UnloadRefused(
            str(endpoint),
            f"does not unload adapter {bounded(name)!r}: {_said(answer.status, error.type, detail)}; "
            "it is tried again, and a restart of the container frees it in any case",
            status=answer.status,
            type=error.type,
            detail=detail,
            retryable=True,
        )
        try:
            listed = await self._find(endpoint, name)
        except EngineError as unknown:
            raise refusal from unknown
        if listed is None or listed.is_base:
            return UnloadOutcome.CONFIRMED
        raise refusal

    async def _find(self, endpoint: Endpoint, name: str) -> EngineModel | None:
        named = [model for model in await self.models(endpoint) if model.name == name]
        # before 0.32 an adapter may be listed under the base model's name, beside the base model
        return min(named, key=lambda model: model.is_base, default=None)

    async def _look_up(
        self, endpoint: Endpoint, name: str, lost: EngineTimeout | EngineUnreachable
    ) -> EngineModel | None:
        """What the engine lists under `name` after an answer was lost; raises `lost` where that tells nothing."""
        if isinstance(lost, EngineUnreachable) and not lost.maybe_received:
            raise lost
        try:
            return await self._find(endpoint, name)
        except EngineError:
            raise lost from None

    def _load_refused(self, endpoint: Endpoint, name: str, status: int, error: ErrorBody) -> LoadRefused:
        detail = bounded(error.message, endpoint.api_key)
        final = status in _FINAL_STATUSES or (status == HTTPStatus.BAD_REQUEST and error.type in _FINAL_TYPES)
        hint = _HINTS.get(status, _HINTS[500])
        return LoadRefused(
            str(endpoint),
            f"does not load adapter {bounded(name)!r}: {_said(status, error.type, detail)}; {hint}",
            status=status,
            type=error.type,
            detail=detail,
            retryable=not final,
        )

    async def _get(self, endpoint: Endpoint, path: str, seconds: float, bytes_max: int = ANSWER_BYTES_MAX) -> _Answer:
        answer = await self._send(endpoint, "GET", path, seconds, bytes_max=bytes_max)
        if answer.status != HTTPStatus.OK:
            said = _said(answer.status, answer.error.type, bounded(answer.error.message, endpoint.api_key))
            if answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                raise EngineFailing(str(endpoint), f"GET {path}", answer.status, said)
            raise _not_vllm(endpoint, f"GET {path}", said)
        return answer

    async def _post(self, endpoint: Endpoint, path: str, request: dict[str, str], seconds: float) -> _Answer:
        return await self._send(endpoint, "POST", path, seconds, request=request)

    async def _send(
        self,
        endpoint: Endpoint,
        method: str,
        path: str,
        seconds: float,
        *,
        request: dict[str, str] | None = None,
        bytes_max: int = ANSWER_BYTES_MAX,
    ) -> _Answer:
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
        connect = None if request is None else min(self._timeouts.connect, seconds)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=connect)
        try:
            async with (
                Patience(seconds),
                self._session.request(method, url, timeout=timeout, allow_redirects=False, **options) as response,
            ):
                answer = _Answer(response.status, await _read(response, bytes_max))
        except aiohttp.ConnectionTimeoutError as error:
            raise EngineUnreachable(engine, f"no connection within {self._timeouts.connect:g} s") from error
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


def _read_metrics(body: bytes) -> EngineMetrics:
    return parse_metrics(body.decode("utf-8", "replace"))


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


def _said(status: int, type_: str | None, detail: str) -> str:
    return f"it answered {status}" + (f" {bounded(type_)}" if type_ else "") + (f": {detail}" if detail else "")


def _not_vllm(endpoint: Endpoint, what: str, why: str) -> EngineAnswerInvalid:
    return EngineAnswerInvalid(
        str(endpoint),
        f"does not answer {what} like vLLM ({why}); check that the annotation "
        "production-stack.vllm-project/port, or --port, names vLLM's own port",
    )
