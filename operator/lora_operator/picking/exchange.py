"""One request's conversation with Envoy: headers, body, and one answer. Answers of engines are not looked at.

The whole body is taken in before anything is said, since the headers' answer names the endpoint and the body names the
model. The conversation ends with the request: Envoy then passes the engine's answer on without asking, chunk by chunk.
"""

from __future__ import annotations

import asyncio
import logging
import time
from dataclasses import replace
from typing import Any

from grpclib.exceptions import GRPCError
from grpclib.server import Stream
from prometheus_client import CollectorRegistry

from lora_operator.picking import answers
from lora_operator.picking.answers import Answer, Refusal, Route
from lora_operator.picking.callers import Callers
from lora_operator.picking.choosing import SELECTED, Choosing
from lora_operator.picking.ext_proc_pb2 import BodySendMode, ProcessingRequest
from lora_operator.picking.form_field import is_form, read_form
from lora_operator.picking.messages import Messages
from lora_operator.picking.metrics import PickerMetrics
from lora_operator.picking.model_field import BadBody, Body, read_body
from lora_operator.picking.model_list import asked_model
from lora_operator.picking.question import Question
from lora_operator.picking.request_body import Limits, Taken
from lora_operator.picking.request_headers import NAMESPACE_HEADER, READING, Headers, read_headers, read_subset
from lora_operator.router.picker import NONE
from lora_operator.router.prompt_blocks import MEMBERS, NO_PROMPT, prompt_of

log = logging.getLogger(__name__)

OWNER = "owner"  # as logs and limits of the gateway know it
DUPLEX = BodySendMode.FULL_DUPLEX_STREAMED


class Exchange:
    """`namespace`: the only one that is served; empty: gateway or client name it, or names are clear without.
    `prompts`: whether they count; `session_header`: which requests belong together, by its value; `automatic`: the
    model that stands for a choice, empty if none does."""

    def __init__(
        self, choosing: Choosing, namespace: str, limits: Limits, registry: CollectorRegistry, callers: Callers, *,
        prompts: bool = False, session_header: str = "", automatic: str = "",
    ) -> None:  # fmt: skip
        self._members, self._session_header = MEMBERS if prompts or automatic else NONE, session_header
        self._prompts, self._automatic = prompts, automatic
        self._choosing = choosing
        self._callers = callers
        self._removed = ("authorization",) if callers.take_credentials else ()
        self._namespace = namespace
        self._limits = limits
        self._requests = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._metrics = PickerMetrics(registry, lambda: self._requests, lambda: limits.held_bytes)

    async def idle(self) -> None:
        """Until nobody waits for an answer."""
        await self._idle.wait()

    async def process(self, stream: Stream[Any, Any]) -> None:
        """The method `Process` of `envoy.service.ext_proc.v3.ExternalProcessor`."""
        messages = Messages(stream, self._limits.message_bytes)
        first = await messages.read(ProcessingRequest)
        if first is None or first.observability_mode or first.WhichOneof("request") != "request_headers":
            return
        self._requests += 1
        self._idle.clear()
        taken = Taken(self._limits)
        result = "unfinished"
        try:
            result = await self._answer(first, messages, taken)
        except Exception as error:
            result = "bad" if isinstance(error, GRPCError) else "defect"
            raise
        finally:
            taken.let_go()
            self._requests -= 1
            if not self._requests:
                self._idle.set()
            self._metrics.answered(result)

    async def _answer(self, first: Any, messages: Messages, taken: Taken) -> str:
        """What became of it, as the metrics call it."""
        headers = read_headers(first.request_headers, self._session_header)
        namespace = self._namespace or messages.metadata(NAMESPACE_HEADER) or headers.namespace
        caller = self._callers.of(headers, first.metadata_context)
        if isinstance(caller, Refusal):
            return await _say(messages, caller)
        if headers.method in READING and (model := asked_model(headers.path)) is not None:
            return await _say(messages, self._choosing.models(Question(model, namespace, owners=caller.owners)))
        refusal = _unusable(first, headers)
        if refusal is None and headers.has_body:
            refusal = await taken.take(messages)
        if refusal is not None:
            return await _say(messages, refusal)
        if headers.has_body and not taken.whole:
            return "unfinished"
        started = time.perf_counter()
        body: Body | None = None
        raw = taken.body()
        if raw or headers.method not in READING:
            try:
                form = is_form(headers.content_type)
                body = read_form(raw, headers.content_type) if form else read_body(raw, self._members)
            except BadBody as error:
                return await _say(messages, Refusal("bad", 400, "BadRequestError", str(error)))
        prompt = prompt_of(body.members, headers.session) if body and self._prompts else NO_PROMPT
        subset = read_subset(first.metadata_context)
        question = Question(body.model if body else "", namespace, subset, prompt, caller.owners)
        if body is not None and question.model == self._automatic:
            resolved = await self._choosing.resolved(question, body.members)
            if isinstance(resolved, Refusal):
                return await _say(messages, resolved)
            question = resolved
        answer = self._choosing.at_once(question)
        waited = answer is None
        if answer is None:
            answer = await self._choosing.in_time(question)
        self._metrics.took(time.perf_counter() - started, waited=waited)
        if isinstance(answer, Refusal):
            return await _say(messages, answer)
        if caller.name or question.selected:
            more = {OWNER: caller.name, SELECTED: question.selected}
            answer = replace(answer, said={**answer.said, **{name: value for name, value in more.items() if value}})
        await messages.end(*_sent(headers, answer, body, raw, self._removed))
        return answer.kind


def _sent(headers: Headers, route: Route, body: Body | None, raw: bytes, removed: tuple[str, ...]) -> list[Any]:
    data = raw
    if body is not None and route.engine_name and route.engine_name != body.model:
        data = body.with_model(route.engine_name)
    changed = headers.has_length and len(data) != len(raw)
    sent = [answers.routed(route, len(data) if changed else None, removed)]
    if headers.has_body:
        sent.append(answers.body(data))
    return sent


async def _say(messages: Messages, said: Answer | Refusal) -> str:
    await messages.end(answers.answered(said) if isinstance(said, Answer) else answers.refused(said))
    return said.kind


def _unusable(first: Any, headers: Headers) -> Refusal | None:
    mode = first.protocol_config.request_body_mode
    if headers.has_body and first.HasField("protocol_config") and mode != DUPLEX:
        name = BodySendMode.Name(mode)
        text = f"the gateway sends bodies in mode {name}; set request_body_mode of its filter to FULL_DUPLEX_STREAMED"
        return Refusal("misconfigured", 500, "GatewayMisconfigured", text)
    if headers.manages:
        text = "adapters are loaded and unloaded by the operator alone; change a LoraAdapter instead"
        return Refusal("forbidden", 403, "Forbidden", text)
    if not headers.has_body and headers.method not in READING:
        text = f'a {headers.method} request needs a body that names a "model"'
        return Refusal("bad", 400, "BadRequestError", text)
    return None
