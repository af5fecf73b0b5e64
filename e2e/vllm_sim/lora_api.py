"""Load and unload over HTTP, under vLLM's own paths and SageMaker's."""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import unquote

from aiohttp import web

from .core import EngineCore
from .journal import Journal
from .registry import LoadRequest, Refused, Registry
from .replies import as_bare_text, check_id, flag_field, json_object, text_field


class LoraApi:
    """POST /v1/load_lora_adapter, POST /v1/unload_lora_adapter, POST /adapters, DELETE /adapters/{name}."""

    def __init__(self, core: EngineCore, registry: Registry, journal: Journal) -> None:
        self._release = core.settings.release
        self._rust = core.settings.rust_frontend
        self._registry = registry
        self._journal = journal

    async def load(self, request: web.Request, raw: bytes, *, forget: bool = False) -> web.Response:
        """`lora_name`, `lora_path`, `load_inplace`; anything else is ignored."""
        body = json_object(raw, request.headers.get("Content-Type", ""))
        await self._load(request, body, text_field(body, "lora_name"), text_field(body, "lora_path"))
        return self._text(f"Success: LoRA adapter '{body['lora_name']}' added successfully.")

    async def load_sagemaker(self, request: web.Request, raw: bytes, *, forget: bool = False) -> web.Response:
        """`name`, `src`: the same, and never behind the API key."""
        body = json_object(raw, request.headers.get("Content-Type", ""))
        await self._load(request, body, text_field(body, "name"), text_field(body, "src"))
        return as_bare_text(f"Adapter {body['name']} registered")

    def _text(self, text: str) -> web.Response:
        return web.Response(text=text) if self._rust else as_bare_text(text)

    async def _load(self, request: web.Request, body: dict[str, Any], name: str, path: str) -> None:
        inplace = flag_field(body, "load_inplace") and self._release.has_load_inplace
        started = time.monotonic()
        try:
            transport = request.transport
            await self._registry.load(
                LoadRequest(name, path, inplace), lambda: transport is not None and not transport.is_closing()
            )
        except Refused as refused:
            self._note("load", name, path, refused.status, started)
            raise
        self._note("load", name, path, 200, started)

    async def unload(self, request: web.Request, raw: bytes, *, forget: bool = False) -> web.Response:
        """`lora_name`; anything else is ignored."""
        body = json_object(raw, request.headers.get("Content-Type", ""))
        name = text_field(body, "lora_name")
        check_id(body, "lora_int_id")
        await self._unload(name, forget, body.get("lora_int_id"))
        return self._text(f"Success: LoRA adapter '{name}' removed successfully.")

    async def unload_sagemaker(self, request: web.Request, raw: bytes, *, forget: bool = False) -> web.Response:
        """The name is the last part of the path."""
        name = unquote(request.path.removeprefix("/adapters/"))
        await self._unload(name, forget)
        return as_bare_text(f"Adapter {name} unregistered")

    async def _unload(self, name: str, forget: bool, int_id: int | None = None) -> None:
        started = time.monotonic()
        known = self._registry.find(name)
        path = known.path if known else None
        try:
            await self._registry.unload(name, forget=forget, int_id=int_id)
        except Refused as refused:
            self._note("unload", name, path, refused.status, started)
            raise
        self._note("unload", name, path, 200, started)

    def _note(self, event: str, name: str, path: str | None, status: int, started: float) -> None:
        seconds = round(time.monotonic() - started, 6)
        self._journal.note(event, name=name, path=path, status=status, seconds=seconds)
