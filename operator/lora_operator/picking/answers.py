"""What Envoy is told to do, as messages of `ext_proc`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lora_operator.picking.ext_proc_pb2 import HeaderValueOption, ProcessingResponse

ENDPOINT_HEADER = "x-gateway-destination-endpoint"
METADATA_SPACE = "envoy.lb"
OWN_SPACE = "lora-operator"  # for logs, limits and headers of the gateway
OVERWRITE = HeaderValueOption.HeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD


@dataclass(frozen=True, slots=True)
class Route:
    """Send it to the first of `addresses` (ip:port) that works. `engine_name`: the model to ask for there; empty: as
    it is. `kind`: what it was for, for the metrics. `said`: what the gateway is told beside, by name."""

    kind: str
    addresses: tuple[str, ...]
    engine_name: str = ""
    said: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Answer:
    """Answered here, with JSON. `kind` is for metrics."""

    kind: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Refusal:
    """Answer it here. `kind` is for metrics and logs, `reason` goes to clients as the error's type."""

    kind: str
    status: int
    reason: str
    message: str
    retry_after_seconds: int | None = None
    near: tuple[str, ...] = ()


def routed(route: Route, length: int | None, removed: Sequence[str] = ()) -> ProcessingResponse:
    """The request's headers name the endpoint; `length` is that of the body where it is another one now. `removed`:
    headers that are not for engines."""
    address = ",".join(route.addresses)
    answer = ProcessingResponse()
    mutation = answer.request_headers.response.header_mutation
    mutation.remove_headers.extend(removed)
    headers = mutation.set_headers
    _set(headers, ENDPOINT_HEADER, address)  # whatever the client may have sent under that name
    if length is not None:
        _set(headers, "content-length", str(length))
    answer.dynamic_metadata[METADATA_SPACE] = {ENDPOINT_HEADER: address}
    if route.said:
        answer.dynamic_metadata[OWN_SPACE] = {name: _plain(value) for name, value in route.said.items()}
    return answer


def body(data: bytes) -> ProcessingResponse:
    """The whole of the request's body."""
    answer = ProcessingResponse()
    sent = answer.request_body.response.body_mutation.streamed_response
    sent.body, sent.end_of_stream = data, True
    return answer


def answered(answer: Answer) -> ProcessingResponse:
    """With success; no engine is asked."""
    return _immediate(200, answer.body, answer.kind, {})


def refused(refusal: Refusal) -> ProcessingResponse:
    """An error in the shape that OpenAI-compatible engines give it, so that clients need to know only one."""
    error = {"message": refusal.message, "type": refusal.reason, "param": "model", "code": refusal.status}
    if refusal.near:
        error["near"] = list(refusal.near)
    told = {} if refusal.retry_after_seconds is None else {"retry-after": str(refusal.retry_after_seconds)}
    return _immediate(refusal.status, json.dumps({"error": error}).encode(), refusal.kind, told)


def _immediate(status: int, body: bytes, kind: str, told: dict[str, str]) -> ProcessingResponse:
    answer = ProcessingResponse()
    immediate = answer.immediate_response
    immediate.status.code, immediate.body, immediate.details = status, body, f"lora_operator_{kind}"
    for key, value in ({"content-type": "application/json"} | told).items():
        _set(immediate.headers.set_headers, key, value)
    return answer


def _plain(text: str) -> str:
    """It may become a header: what a pod says about itself, nobody has looked at."""
    return "".join(sign for sign in text if " " <= sign <= "~")


def _set(headers: Any, key: str, value: str) -> None:
    option = headers.add(append_action=OVERWRITE)
    option.header.key, option.header.raw_value = key, value.encode()
