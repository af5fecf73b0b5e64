"""Tasks beside generation, answered in vLLM's shape by a text that says which weights computed it.

A real server has some of these routes only for a model of that kind; the simulator has all of them.
"""

from __future__ import annotations

import time
import uuid
from email import message_from_bytes
from email.policy import HTTP
from typing import Any

from aiohttp import web

from .core import EngineCore
from .registry import Refused, Registry
from .replies import as_json, json_object

DIMENSIONS = 8


class OtherTasks:
    """Embeddings, scores, transcriptions, responses."""

    def __init__(self, core: EngineCore, registry: Registry) -> None:
        self._core = core
        self._registry = registry

    async def embed(self, request: web.Request, raw: bytes, *, forget: bool = False) -> web.StreamResponse:
        """`input` is a text or a list of them; the numbers are those of the weights."""
        body = json_object(raw, request.headers.get("Content-Type", ""))
        texts = body.get("input")
        texts = texts if isinstance(texts, list) else [texts]
        said = await self._compute(body.get("model"), str(texts))
        vector = [int(digit, 16) / 16 for digit in said.rpartition("=")[2].ljust(DIMENSIONS, "0")[:DIMENSIONS]]
        data = [{"object": "embedding", "index": index, "embedding": vector} for index in range(len(texts))]
        return as_json(_frame("embd", "list", body) | {"data": data, "usage": {"prompt_tokens": 1, "total_tokens": 1}})

    async def score(self, request: web.Request, raw: bytes, *, forget: bool = False) -> web.StreamResponse:
        """Rerank, score, pooling, classify: `results` names the weights."""
        body = json_object(raw, request.headers.get("Content-Type", ""))
        said = await self._compute(body.get("model"), str(body))
        return as_json(_frame("rank", "list", body) | {"results": [{"index": 0, "relevance_score": 1.0, "said": said}]})

    async def respond(self, request: web.Request, raw: bytes, *, forget: bool = False) -> web.StreamResponse:
        """`input` is a text."""
        body = json_object(raw, request.headers.get("Content-Type", ""))
        said = await self._compute(body.get("model"), str(body.get("input")))
        content = [{"type": "output_text", "text": said, "annotations": []}]
        message = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": content}
        rest = {"status": "completed", "output": [message], "tools": [], "tool_choice": "auto"}
        return as_json(
            _frame("resp", "response", body) | {"created_at": int(time.time()), "parallel_tool_calls": True} | rest
        )

    async def transcribe(self, request: web.Request, raw: bytes, *, forget: bool = False) -> web.StreamResponse:
        """A form with the fields `model` and `file`."""
        head = f"Content-Type: {request.headers.get('Content-Type', '')}\r\n\r\n".encode()
        form = message_from_bytes(head + raw, policy=HTTP)
        fields = {part.get_param("name", header="content-disposition"): part for part in form.iter_parts()}
        if "file" not in fields or "model" not in fields:
            raise Refused(400, "Bad Request", "1 validation error:\n  {'loc': 'body.file'}", "body.file")
        return as_json({"text": await self._compute(fields["model"].get_content().strip(), "audio")})

    async def _compute(self, model: Any, prompt: str) -> str:
        lora = self._registry.resolve(model)
        async with self._core.serving(lora, prompt) as computed:
            await self._core.step(lora, self._core.settings.seconds_per_token)
            return f"adapter={computed.adapter} weights={computed.digest}"


def _frame(prefix: str, kind: str, body: dict[str, Any]) -> dict[str, Any]:
    head = {"id": f"{prefix}-{uuid.uuid4().hex}", "object": kind, "created": int(time.time())}
    return head | {"model": body.get("model")}
