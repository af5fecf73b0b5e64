"""The HTTP client for agents. Orders hold links, which are secrets: nothing of a body is ever logged or shown."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, TypeVar

import aiohttp
from pydantic import ValidationError
from yarl import URL

from lora_operator.agent_api.wire import (
    MAX_WAIT_SECONDS,
    Body,
    EntryBody,
    HeldBody,
    ListBody,
    LoadedBody,
    OpenBody,
    OrderBody,
    ProblemBody,
    ReadinessBody,
    VersionBody,
)
from lora_operator.fetch.manifest import FetchManifest
from lora_operator.process.failure import Failure
from lora_operator.tracing import OFF, Tracing
from lora_operator.vllm.answers import Endpoint

CONNECT_SECONDS = 3.0
ANSWER_SECONDS = 10.0
ANSWER_BYTES_MAX = 16 << 20
T = TypeVar("T", bound=Body)


class AgentError(Failure):
    """An agent refused, failed or did not answer."""


class AgentClient:
    """Talks to any number of agents. `token` is asked for each request, so that a rotated one is used at once."""

    def __init__(self, session: aiohttp.ClientSession, token: Callable[[], str], tracing: Tracing = OFF) -> None:
        self._session = session
        self._tracing = tracing
        self._token = token

    async def fetch(
        self,
        endpoint: Endpoint,
        order: FetchManifest,
        *,
        prefetch: bool = False,
        wait_seconds: float = MAX_WAIT_SECONDS,
    ) -> EntryBody:
        """Have the version fetched; returns when it is there, has failed, or the time is over. Raises AgentError."""
        body = OrderBody.of(order, prefetch=prefetch)
        path = f"/v1/adapters/{order.name}/{order.fingerprint}?wait={wait_seconds:g}"
        return await self._ask("PUT", endpoint, path, EntryBody, body, ANSWER_SECONDS + wait_seconds)

    async def entries(self, endpoint: Endpoint) -> ListBody:
        """Everything on the agent's disk. Raises AgentError."""
        return await self._ask("GET", endpoint, "/v1/adapters", ListBody)

    async def remove(self, endpoint: Endpoint, version: tuple[str, str]) -> None:
        """Have a version removed; one that is not there (any more) is. Raises AgentError, with reason InUse or Pinned
        where it has to stay."""
        name, fingerprint = version
        path = f"/v1/adapters/{name}/{fingerprint}"
        text, status = await self._call("DELETE", endpoint, path, None, ANSWER_SECONDS)
        if status >= 400 and status != 404:
            raise _problem(endpoint, status, text)

    async def loaded(
        self, endpoint: Endpoint, versions: Collection[tuple[str, str]], pinned: Collection[tuple[str, str]] = ()
    ) -> HeldBody:
        """Say what the engine has or is about to get, all of it, and what is pinned: these files stay. Returns those of
        `versions` that are there, and what was removed since it was asked before. Raises AgentError.
        """
        body = LoadedBody(versions=_bodies(versions))
        if pinned:
            try:
                also = LoadedBody(versions=body.versions, pinned=_bodies(pinned))
                return await self._ask("PUT", endpoint, "/v1/loaded", HeldBody, also)
            except AgentError as error:
                if error.reason != "BadRequest":
                    raise
                # an agent from before there were pins: it keeps what is loaded all the same
        return await self._ask("PUT", endpoint, "/v1/loaded", HeldBody, body)

    async def readiness(self, endpoint: Endpoint, said: ReadinessBody) -> bool:
        """Say whether the engine holds what is planned. Returns whether the agent lets traffic in. Raises AgentError,
        with reason BadRequest for an agent that does not know this call.
        """
        return (await self._ask("PUT", endpoint, "/v1/readiness", OpenBody, said)).open

    async def let_go(self, endpoint: Endpoint, holder: str) -> None:
        """Say that the pod `holder` is gone: what was loaded there may go from this disk. Raises AgentError."""
        text, status = await self._call("DELETE", endpoint, f"/v1/holders/{holder}", None, ANSWER_SECONDS)
        if status >= 400:
            raise _problem(endpoint, status, text)

    async def _ask(
        self,
        method: str,
        endpoint: Endpoint,
        path: str,
        answer: type[T],
        body: Body | None = None,
        seconds: float = ANSWER_SECONDS,
    ) -> T:
        text, status = await self._call(method, endpoint, path, body, seconds)
        if status >= 400:
            raise _problem(endpoint, status, text)
        try:
            return answer.model_validate_json(text)
        except ValidationError as error:
            count = error.error_count()
        raise _senseless(endpoint, count)

    async def _call(
        self, method: str, endpoint: Endpoint, path: str, body: Body | None, seconds: float
    ) -> tuple[bytes, int]:
        headers = {"Authorization": f"Bearer {self._token()}", **self._tracing.headers()}
        content: dict[str, Any] = {}
        if body is not None:
            # without what was not given: an agent that is older refuses members that it does not know
            content["data"] = body.model_dump_json(by_alias=True, exclude_unset=True).encode()
            headers["Content-Type"] = "application/json"
        try:
            async with self._session.request(
                method,
                URL(f"http://{endpoint}{path}"),
                headers=headers,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=seconds, sock_connect=CONNECT_SECONDS),
                **content,
            ) as response:
                return await _read(response), response.status
        except _TooLarge:
            what = f"its answer is larger than {ANSWER_BYTES_MAX} bytes"
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            what = "did not answer in time" if isinstance(error, TimeoutError) else type(error).__name__
        raise AgentError(
            "AgentUnreachable",
            f"the agent at {endpoint} cannot be asked ({what}): see the log of the pod's agent container",
            retryable=True,
        )


def _bodies(versions: Collection[tuple[str, str]]) -> tuple[VersionBody, ...]:
    return tuple(VersionBody(name=name, fingerprint=fingerprint) for name, fingerprint in sorted(versions))


class _TooLarge(Exception):
    """An answer that no agent gives."""


async def _read(response: aiohttp.ClientResponse) -> bytes:
    text = bytearray()
    async for block in response.content.iter_any():
        text += block
        if len(text) > ANSWER_BYTES_MAX:
            raise _TooLarge
    return bytes(text)


def _problem(endpoint: Endpoint, status: int, text: bytes) -> AgentError:
    if status == 401:
        return AgentError(
            "AgentUnauthorized",
            f"the agent at {endpoint} does not accept the operator's token: both must use the same Secret",
            retryable=True,
        )
    try:
        problem = ProblemBody.model_validate_json(text)
    except ValidationError as error:
        return _senseless(endpoint, error.error_count())
    return AgentError(
        problem.reason, problem.message, retryable=problem.retryable, retry_after_seconds=problem.retry_after_seconds
    )


def _senseless(endpoint: Endpoint, errors: int) -> AgentError:
    return AgentError(
        "AgentAnswerInvalid",
        f"the agent at {endpoint} gave an answer that makes no sense ({errors} errors): are operator and agent of the "
        "same version?",
        retryable=True,
    )
