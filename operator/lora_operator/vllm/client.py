"""The HTTP client for all engines: list, load, unload, health, release, metrics.

Outcomes are decided by status, then by error type, then by what /v1/models lists, never by the wording of a message,
which vLLM changes between releases. Every request has a time-out and every answer a largest size.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from enum import StrEnum
from http import HTTPStatus
from typing import Any

import aiohttp

from lora_operator.vllm.answers import (
    Endpoint,
    EngineModel,
    ErrorBody,
    Frontend,
    parse_models,
    parse_sleeping,
    parse_version,
)
from lora_operator.vllm.engine_tls import EngineTls
from lora_operator.vllm.errors import (
    EngineAnswerInvalid,
    EngineAnswerTooLarge,
    EngineError,
    EngineFailing,
    EngineTimeout,
    EngineUnreachable,
    LoadRefused,
    ModelListTooLong,
    NameTakenByOther,
    RuntimeUpdatingDisabled,
    UnloadRefused,
    bounded,
)
from lora_operator.vllm.metrics import EngineMetrics, parse_metrics
from lora_operator.vllm.transport import ANSWER_BYTES_MAX, Answer, EngineTransport, new_session

__all__ = ["Endpoint", "EngineClient", "EngineModel", "LoadOutcome", "Timeouts", "UnloadOutcome", "new_session"]

# One entry of /v1/models takes about 600 bytes, and 4,000 names on a pod are far beyond what vLLM can hold in memory.
LIST_BYTES_MAX = 4 * 2**20
LIST_ENTRIES_MAX = 4096
LIST_BYTES_AT_ONCE = 64 * 2**10  # takes a millisecond to read
METRICS_BYTES_MAX = 8 * 2**20
METRICS_BYTES_AT_ONCE = 256 * 2**10  # takes some milliseconds to read

# Refusals that the same request meets again. All others may come from the moment: a status cannot tell a corrupt
# adapter from a busy disk (a failed load is 400 BadRequestError before 0.18 and 500 since).
_FINAL_TYPES = frozenset({"InvalidUserInput", "Bad Request"})
_FINAL_STATUSES = frozenset({405, 410, 413, 414, 415, 422, 501})

_HINTS = {
    400: "correct what it names",
    404: "check that the adapter volume is mounted in the pod at the path that the annotation adapter-root says",
    500: "see the log of the vLLM container",
}
_WITHOUT_LORA = "LoRA is not enabled"  # run: 0.28 to 0.33


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
        self._timeouts = timeouts or Timeouts()
        self._transport = EngineTransport(session, self._timeouts.connect, tls)

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
        if models and models[0].frontend is Frontend.RUST and not await self.health(endpoint):
            # it lists on for a while after its engine has died
            raise EngineFailing(str(endpoint), "GET /health", 503, "it lists models, and its engine is not well")
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
        answer = await self._transport.send(endpoint, "GET", "/health", self._timeouts.probe)
        return answer.status == HTTPStatus.OK

    async def is_sleeping(self, endpoint: Endpoint) -> bool:
        """Whether it has been told to sleep; False where it does not say (only VLLM_SERVER_DEV_MODE has the route)."""
        answer = await self._transport.send(endpoint, "GET", "/is_sleeping", self._timeouts.probe)
        try:
            return answer.status == HTTPStatus.OK and parse_sleeping(answer.body)
        except ValueError:
            return False

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
            elif listed.is_from(path) and not listed.is_base:
                return LoadOutcome.CONFIRMED
            else:
                raise NameTakenByOther(str(endpoint), name, listed.root, is_base=listed.is_base) from lost
        if answer.status == HTTPStatus.OK:
            return LoadOutcome.LOADED
        error = answer.error
        if await self._has_no_route(endpoint, answer):
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
        if listed.is_from(path) and not listed.is_base:
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
        if await self._has_no_route(endpoint, answer):
            raise RuntimeUpdatingDisabled(str(endpoint))
        if answer.status == HTTPStatus.NOT_FOUND and error.type == "NotFoundError":
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
        if answer.status == HTTPStatus.INTERNAL_SERVER_ERROR and listed.frontend is Frontend.RUST:
            return await self._unload_evicted(endpoint, listed, refusal)
        raise refusal

    async def _unload_evicted(self, endpoint: Endpoint, listed: EngineModel, refusal: UnloadRefused) -> UnloadOutcome:
        """Have the engine read an adapter once more that it holds no more, so that it can forget it.

        The Rust frontend asks the engine to remove an adapter, and goes on listing one that has been evicted (run:
        0.33). Loading it in place does no harm where its files are gone; a request for it would end the engine.
        """
        again = {"lora_name": listed.name, "lora_path": listed.root, "load_inplace": True}
        if (await self._post(endpoint, "/v1/load_lora_adapter", again, self._timeouts.load)).status != HTTPStatus.OK:
            raise refusal
        name = {"lora_name": listed.name}
        answer = await self._post(endpoint, "/v1/unload_lora_adapter", name, self._timeouts.unload)
        if answer.status != HTTPStatus.OK and await self._find(endpoint, listed.name) is not None:
            raise refusal
        return UnloadOutcome.UNLOADED

    async def _has_no_route(self, endpoint: Endpoint, answer: Answer) -> bool:
        """Whether an answer means that there is no such route. The Rust frontend says so with nothing but the status,
        as proxies do in passing."""
        if answer.status != HTTPStatus.NOT_FOUND or not answer.error.is_bare_not_found:
            return False
        if answer.body:
            return True
        try:
            return any(model.frontend is Frontend.RUST for model in await self.models(endpoint))
        except EngineError:
            return False

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
        if _WITHOUT_LORA in detail:  # only a hint: what it says may change
            hint = "vLLM has to be started with --enable-lora"
        return LoadRefused(
            str(endpoint),
            f"does not load adapter {bounded(name)!r}: {_said(status, error.type, detail)}; {hint}",
            status=status,
            type=error.type,
            detail=detail,
            retryable=not final,
        )

    async def _get(self, endpoint: Endpoint, path: str, seconds: float, bytes_max: int = ANSWER_BYTES_MAX) -> Answer:
        answer = await self._transport.send(endpoint, "GET", path, seconds, bytes_max=bytes_max)
        if answer.status != HTTPStatus.OK:
            said = _said(answer.status, answer.error.type, bounded(answer.error.message, endpoint.api_key))
            if answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                raise EngineFailing(str(endpoint), f"GET {path}", answer.status, said)
            raise _not_vllm(endpoint, f"GET {path}", said)
        return answer

    async def _post(self, endpoint: Endpoint, path: str, request: dict[str, Any], seconds: float) -> Answer:
        return await self._transport.send(endpoint, "POST", path, seconds, request=request)


def _read_metrics(body: bytes) -> EngineMetrics:
    return parse_metrics(body.decode("utf-8", "replace"))


def _said(status: int, type_: str | None, detail: str) -> str:
    return f"it answered {status}" + (f" {bounded(type_)}" if type_ else "") + (f": {detail}" if detail else "")


def _not_vllm(endpoint: Endpoint, what: str, why: str) -> EngineAnswerInvalid:
    return EngineAnswerInvalid(
        str(endpoint),
        f"does not answer {what} like vLLM ({why}); check that the annotation "
        "production-stack.vllm-project/port, or --port, names vLLM's own port",
    )
