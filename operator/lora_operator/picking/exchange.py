"""One request's conversation with Envoy: headers, body, and one answer. Answers of engines are not looked at.

The whole body is taken in before anything is said, since the headers' answer names the endpoint and the body names the
model. The conversation ends with the request: Envoy then passes the engine's answer on without asking, chunk by chunk.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import Any

from envoy.extensions.filters.http.ext_proc.v3.processing_mode_pb2 import ProcessingMode
from envoy.service.ext_proc.v3.external_processor_pb2 import ProcessingRequest
from grpc.aio import EOF, ServicerContext
from prometheus_client import CollectorRegistry

from lora_operator.picking import answers
from lora_operator.picking.answers import Refusal, Route
from lora_operator.picking.asked import NAMESPACE_HEADER, READING, Headers, read_headers, read_subset
from lora_operator.picking.body import BadBody, Body, read_body
from lora_operator.picking.choosing import Choosing, Question
from lora_operator.picking.metrics import PickerMetrics

log = logging.getLogger(__name__)

RETRY_SECONDS = 1
DUPLEX = ProcessingMode.BodySendMode.FULL_DUPLEX_STREAMED


@dataclass(frozen=True, slots=True)
class Limits:
    """`body_bytes`: of one request; `held_bytes`: of all that are being answered, so that bodies cannot fill memory."""

    body_bytes: int = 16 << 20
    held_bytes: int = 256 << 20


class Exchange:
    """`namespace`: the only one that is served; empty: gateway or client name it, or names are clear without."""

    def __init__(self, choosing: Choosing, namespace: str, limits: Limits, registry: CollectorRegistry) -> None:
        self._choosing = choosing
        self._namespace = namespace
        self._limits = limits
        self._requests = 0
        self._held_bytes = 0
        self._metrics = PickerMetrics(registry, lambda: self._requests, lambda: self._held_bytes)

    async def process(self, _: Any, context: ServicerContext[ProcessingRequest, Any]) -> None:
        """The method `Process` of `envoy.service.ext_proc.v3.ExternalProcessor`."""
        message = await context.read()
        if message is EOF or message.observability_mode or message.WhichOneof("request") != "request_headers":
            return
        self._requests += 1
        taken = _Taken()
        try:
            result, seconds = await self._answer(message, context, taken)
        except Exception:
            log.exception("a request was not answered because of a defect")
            self._metrics.answered("defect")
            raise
        finally:
            self._requests -= 1
            self._held_bytes -= taken.size
        self._metrics.answered(result, seconds)

    async def _answer(self, first: Any, context: Any, taken: _Taken) -> tuple[str, float | None]:
        headers = read_headers(first.request_headers)
        problem = _unusable(first, headers)
        if problem is not None:
            return await _refuse(context, problem)
        if headers.has_body:
            problem = await self._take(context, taken)
            if problem is not None:
                return await _refuse(context, problem)
            if not taken.whole:
                return "unfinished", None
        started = time.perf_counter()
        body: Body | None = None
        raw = b"".join(taken.chunks)
        if headers.has_body and (raw or headers.method not in READING):
            try:
                body = read_body(raw)
            except BadBody as error:
                return await _refuse(context, Refusal("bad", 400, "BadRequestError", str(error)))
        namespace = self._namespace or _told(context) or headers.namespace
        question = Question(body.model if body else "", namespace, read_subset(first.metadata_context))
        answer = self._choosing.at_once(question)
        if answer is None:
            answer = await self._choosing.in_time(question)
        seconds = time.perf_counter() - started
        if isinstance(answer, Refusal):
            await context.write(answers.refused(answer))
        else:
            await self._send(context, headers, taken, answer, body, raw)
        return answer.kind, seconds

    async def _take(self, context: Any, taken: _Taken) -> Refusal | None:
        """The body as far as Envoy sends it, or why it is too much."""
        limit = self._limits.body_bytes
        while True:
            message = await context.read()
            if message is EOF:
                return None
            kind = message.WhichOneof("request")
            if kind == "request_trailers":
                taken.whole = taken.trailers = True
                return None
            if kind != "request_body":
                continue
            chunk = message.request_body.body
            taken.chunks.append(chunk)
            taken.size += len(chunk)
            self._held_bytes += len(chunk)
            if taken.size > limit:
                text = f"the body is larger than {limit} bytes; send less, or raise --picker-body-bytes"
                return Refusal("too_large", 413, "RequestEntityTooLarge", text)
            if self._held_bytes > self._limits.held_bytes:
                return Refusal("too_many", 429, "TooManyWaiting", "too many large requests at a time", RETRY_SECONDS)
            if message.request_body.end_of_stream:
                taken.whole = True
                return None

    async def _send(
        self, context: Any, headers: Headers, taken: _Taken, route: Route, body: Body | None, raw: bytes
    ) -> None:
        data = raw
        if body is not None and route.engine_name and route.engine_name != body.model:
            data = body.with_model(route.engine_name)
        changed = headers.has_length and len(data) != len(raw)
        await context.write(answers.routed(route, len(data) if changed else None))
        if headers.has_body:
            await context.write(answers.body(data, ends=not taken.trailers))
        if taken.trailers:
            await context.write(answers.trailers())


class _Taken:
    """What has come of a body. `whole`: all; `trailers`: they ended it."""

    __slots__ = ("chunks", "size", "trailers", "whole")

    def __init__(self) -> None:
        self.chunks: list[bytes] = []
        self.size = 0
        self.trailers = False
        self.whole = False


async def _refuse(context: Any, refusal: Refusal) -> tuple[str, None]:
    await context.write(answers.refused(refusal))
    return refusal.kind, None


def _unusable(first: Any, headers: Headers) -> Refusal | None:
    mode = first.protocol_config.request_body_mode
    if headers.has_body and first.HasField("protocol_config") and mode != DUPLEX:
        name = ProcessingMode.BodySendMode.Name(mode)
        text = f"the gateway sends bodies in mode {name}; set request_body_mode of its filter to FULL_DUPLEX_STREAMED"
        return Refusal("misconfigured", 500, "GatewayMisconfigured", text)
    if headers.manages:
        text = "adapters are loaded and unloaded by the operator alone; change a LoraAdapter instead"
        return Refusal("forbidden", 403, "Forbidden", text)
    if not headers.has_body and headers.method not in READING:
        text = f'a {headers.method} request needs a body that names a "model"'
        return Refusal("bad", 400, "BadRequestError", text)
    return None


def _told(context: Any) -> str:
    """The namespace that the gateway's configuration names, which no client can change."""
    for key, value in context.invocation_metadata() or ():
        if key == NAMESPACE_HEADER:
            return str(value)
    return ""
