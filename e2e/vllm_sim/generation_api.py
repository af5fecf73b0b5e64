"""Completions that say which weights computed them, at once or as a stream."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import web

from .core import Computed, EngineCore, EngineDead, LoadedAdapter
from .registry import Refused, Registry, error_body
from .releases import Release
from .replies import as_json, json_object

_DEFAULT_TOKENS = 16


class GenerationApi:
    """POST /v1/completions, POST /v1/chat/completions, POST /invocations."""

    def __init__(self, core: EngineCore, registry: Registry) -> None:
        self._core = core
        self._registry = registry
        self.prompt_tokens = 0
        self.generated_tokens = 0
        self.finished = 0

    async def complete(self, request: web.Request, raw: bytes, *, forget: bool = False) -> web.StreamResponse:
        """`prompt` is a string, a list of strings or of tokens."""
        body = json_object(raw, request.headers.get("Content-Type", ""))
        if "prompt" not in body:
            message = "Either prompt or prompt_embeds must be provided and non-empty. (parameter=prompt)"
            raise Refused(400, "BadRequestError", message, "prompt")
        return await self._answer(request, body, _prompt_text(body["prompt"]), chat=False)

    async def chat(self, request: web.Request, raw: bytes, *, forget: bool = False) -> web.StreamResponse:
        """`messages` as OpenAI has them."""
        body = json_object(raw, request.headers.get("Content-Type", ""))
        messages = body.get("messages")
        if not isinstance(messages, list):
            raise Refused(400, "Bad Request", "1 validation error:\n  {'loc': 'body.messages'}", "messages")
        prompt = "".join(f"<{m.get('role')}>{_prompt_text(m.get('content') or '')}" for m in messages)
        return await self._answer(request, body, prompt, chat=True)

    async def invoke(self, request: web.Request, raw: bytes, *, forget: bool = False) -> web.StreamResponse:
        """SageMaker's one endpoint for both."""
        body = json_object(raw, request.headers.get("Content-Type", ""))
        if "messages" in body:
            return await self.chat(request, raw)
        return await self.complete(request, raw)

    async def _answer(
        self, request: web.Request, body: dict[str, Any], prompt: str, *, chat: bool
    ) -> web.StreamResponse:
        model = body.get("model")
        lora = self._registry.resolve(model)
        tokens = body.get("max_completion_tokens") or body.get("max_tokens") or _DEFAULT_TOKENS
        if not isinstance(tokens, int) or tokens < 1:
            raise Refused(400, "BadRequestError", f"max_tokens must be at least 1, got {tokens}.", "max_tokens")
        self._check_length(prompt, tokens)
        shape = _Shape(str(model or self._core.settings.served_names[0]), chat, len(prompt), tokens)
        if body.get("stream"):
            return await self._stream(request, lora, prompt, shape)
        release = self._core.settings.release
        text: list[str] = []
        try:
            async for piece in self._generate(request, lora, prompt, shape):
                text.append(piece)
        except EngineDead as dead:
            refused = Refused(500, release.death_type, str(dead))
            return as_json(error_body(refused, release), release.death_status)
        if shape.has_nan and body.get("logprobs"):
            return _nan_refused(release)
        return as_json(shape.whole("".join(text), tells_cached_tokens=self._core.settings.tells_cached_tokens))

    def _check_length(self, prompt: str, tokens: int) -> None:
        limit = self._core.settings.max_model_len
        if limit is not None and len(prompt) + tokens > limit:
            message = (
                f"This model's maximum context length is {limit} tokens. However, you requested {tokens} output tokens "
                f"and your prompt contains {len(prompt)} input tokens."
            )
            raise Refused(400, "BadRequestError", message, "input_tokens")

    async def _generate(
        self, request: web.Request, lora: LoadedAdapter | None, prompt: str, shape: _Shape
    ) -> AsyncIterator[str]:
        async with self._core.serving(lora, prompt) as computed:
            shape.cached_tokens, shape.has_nan = computed.reused.tokens, computed.has_nan
            for index in range(shape.tokens):
                if request.transport is None or request.transport.is_closing():
                    return  # the client has gone: vLLM aborts the request
                await self._core.step(lora, self._core.settings.seconds_per_token)
                if index < shape.tokens - 1:
                    self._core.note_step()
                yield _report(computed) if index == 0 else ""
            self.finished += 1
            self.prompt_tokens += len(prompt)
            self.generated_tokens += shape.tokens

    async def _stream(
        self, request: web.Request, lora: LoadedAdapter | None, prompt: str, shape: _Shape
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        await response.prepare(request)
        try:
            async for piece in self._generate(request, lora, prompt, shape):
                await response.write(_event(shape.piece(piece)))
            await response.write(_event(shape.piece("", finish="length")))
        except EngineDead as dead:
            refused = Refused(500, "InternalServerError", str(dead))
            await response.write(_event(error_body(refused, self._core.settings.release)))
        except ConnectionError:
            return response
        await response.write(b"data: [DONE]\n\n")
        return response


class _Shape:
    """The JSON around the text, for one request."""

    def __init__(self, model: str, chat: bool, prompt_tokens: int, tokens: int) -> None:
        self._model, self._chat, self._prompt_tokens, self.tokens = model, chat, prompt_tokens, tokens
        self.cached_tokens, self.has_nan = 0, False
        self._id = f"{'chatcmpl' if chat else 'cmpl'}-{uuid.uuid4().hex}"

    def _frame(self, kind: str, choice: dict[str, Any]) -> dict[str, Any]:
        return {"id": self._id, "object": kind, "created": int(time.time()), "model": self._model, "choices": [choice]}

    def whole(self, text: str, *, tells_cached_tokens: bool) -> dict[str, Any]:
        """The answer in one piece."""
        choice: dict[str, Any] = {"index": 0}
        choice |= {"message": {"role": "assistant", "content": text}} if self._chat else {"text": text}
        choice |= {"logprobs": None, "finish_reason": "length", "stop_reason": None}
        total = self._prompt_tokens + self.tokens
        usage: dict[str, Any] = {"prompt_tokens": self._prompt_tokens, "total_tokens": total}
        details = {"cached_tokens": self.cached_tokens} if tells_cached_tokens else None
        usage |= {"completion_tokens": self.tokens, "prompt_tokens_details": details}
        return self._frame("chat.completion" if self._chat else "text_completion", choice) | {"usage": usage}

    def piece(self, text: str, finish: str | None = None) -> dict[str, Any]:
        """One event of the stream."""
        choice: dict[str, Any] = {"index": 0}
        choice |= {"delta": {"content": text}} if self._chat else {"text": text}
        choice |= {"logprobs": None, "finish_reason": finish}
        return self._frame("chat.completion.chunk" if self._chat else "text_completion", choice)


def _report(computed: Computed) -> str:
    nan = " nan=1" if computed.has_nan else ""
    return f"adapter={computed.adapter} weights={computed.digest} cached={computed.reused.digest}{nan}"


def _nan_refused(release: Release) -> web.Response:
    if release.nan_logprobs_status == 500:  # nobody catches it there
        return web.Response(status=500, text="Internal Server Error")
    refused = Refused(400, "BadRequestError", "Out of range float values are not JSON compliant")
    return as_json(error_body(refused, release), 400)


def _prompt_text(prompt: object) -> str:
    if isinstance(prompt, str):
        return prompt
    if isinstance(prompt, list) and all(isinstance(token, int) for token in prompt):
        return "".join(chr(0x100 + token) for token in prompt)  # one character is one token
    if isinstance(prompt, list):
        return " ".join(_prompt_text(item) for item in prompt)
    if isinstance(prompt, dict):
        return str(prompt.get("text", ""))
    return str(prompt)


def _event(body: object) -> bytes:
    return b"data: " + json.dumps(body, separators=(",", ":")).encode() + b"\n\n"
