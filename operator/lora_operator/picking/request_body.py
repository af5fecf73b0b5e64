"""Takes the body of a request in, up to what one request and all together may hold."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from lora_operator.picking.answers import Refusal
from lora_operator.picking.ext_proc_pb2 import ProcessingRequest
from lora_operator.picking.messages import Messages

RETRY_SECONDS = 1
AROUND_BYTES = 64 << 10  # what a message may have around a body: headers, attributes, metadata


@dataclass(slots=True)
class Limits:
    """`body_bytes`: of one request; `together_bytes`: of all that are being answered, so that bodies cannot fill the
    memory (what is sent on is there a few times more for a moment). Those of up to `small_bytes` may be twice that, as
    most are, and large ones that come slowly must not keep them out. `body_seconds`: for the whole of a body to come.
    `held_bytes` is what all hold now."""

    body_bytes: int
    together_bytes: int = 128 << 20
    small_bytes: int = 64 << 10
    body_seconds: float = 60.0
    held_bytes: int = 0

    @property
    def message_bytes(self) -> int:
        """Envoy may send a whole body in one piece."""
        return self.body_bytes + AROUND_BYTES


class Taken:
    """What has come of a body. `whole`: all of it."""

    __slots__ = ("_chunks", "_limits", "_size", "whole")

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._chunks: list[bytes] = []
        self._size = 0
        self.whole = False

    async def take(self, messages: Messages) -> Refusal | None:
        """As far as Envoy sends it, or why it is too much, or too slow."""
        seconds = self._limits.body_seconds
        try:
            async with asyncio.timeout(seconds):
                return await self._take(messages)
        except TimeoutError:
            text = f"the whole body has to come within {seconds:g} s"
            return Refusal("unfinished", 408, "RequestTimeout", text)

    async def _take(self, messages: Messages) -> Refusal | None:
        limits = self._limits
        while not self.whole:
            message = await messages.read(ProcessingRequest)
            if message is None:
                return None
            kind = message.WhichOneof("request")
            if kind == "request_trailers":
                # an Envoy that may try again sends the body twice if trailers follow it; engines read none
                text = "trailers came behind the body; send the request without"
                return Refusal("bad", 400, "BadRequestError", text)
            if kind == "request_body":
                chunk = message.request_body.body
                self._chunks.append(chunk)
                self._size += len(chunk)
                limits.held_bytes += len(chunk)
                if self._size > limits.body_bytes:
                    text = f"the body is larger than {limits.body_bytes} bytes; send less, or raise --picker-body-bytes"
                    return Refusal("too_large", 413, "RequestEntityTooLarge", text)
                most = limits.together_bytes * (2 if self._size <= limits.small_bytes else 1)
                if limits.held_bytes > most:
                    text = "too many large requests at a time; come again"
                    return Refusal("too_many", 429, "TooManyWaiting", text, RETRY_SECONDS)
                self.whole = message.request_body.end_of_stream
        return None

    def body(self) -> bytes:
        if len(self._chunks) > 1:
            self._chunks = [b"".join(self._chunks)]  # and not both: it may have to wait for an adapter
        return self._chunks[0] if self._chunks else b""

    def let_go(self) -> None:
        """It takes no memory any more."""
        self._limits.held_bytes -= self._size
        self._size = 0
