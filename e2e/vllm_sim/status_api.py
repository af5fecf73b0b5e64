"""What the server says about itself: models, health, version, metrics, and the developer's cache reset."""

from __future__ import annotations

import time
import uuid
from typing import Any

from aiohttp import web

from .core import EngineCore
from .journal import Journal
from .metrics import Metrics
from .registry import Registry
from .replies import as_json

_NO_LIMIT_KNOWN = 131_072


class StatusApi:
    """GET /v1/models, /health, /ping, /version, /metrics; POST /reset_prefix_cache, /sleep."""

    def __init__(self, core: EngineCore, registry: Registry, metrics: Metrics, journal: Journal) -> None:
        self._core = core
        self._registry = registry
        self._metrics = metrics
        self._journal = journal
        self._sleeps = False

    async def models(self, request: web.Request, raw: bytes, *, forget: bool = False) -> web.Response:
        """The base's names, then the adapters in load order. `created` is now."""
        settings, base = self._core.settings, self._core.limits.base
        length = settings.max_model_len or (base.max_position_embeddings if base else _NO_LIMIT_KNOWN)
        parent = settings.served_names[0]
        owner = "vllm-frontend-rs" if settings.rust_frontend else "vllm"
        cards = [_card(owner, name, settings.model, None, length) for name in settings.served_names]
        cards += [_card(owner, a.name, a.path, parent, None) for a in self._registry.adapters]
        return as_json({"object": "list", "data": cards})

    async def health(self, request: web.Request, raw: bytes, *, forget: bool = False) -> web.Response:
        """200 without a body; 503 in the moment between the engine's death and the process's."""
        return web.Response(status=503 if self._core.died.is_set() else 200)

    async def version(self, request: web.Request, raw: bytes, *, forget: bool = False) -> web.Response:
        """The release that is played."""
        settings = self._core.settings
        rust = {"rust_frontend_version": settings.release.name} if settings.rust_frontend else {}
        return as_json({"version": settings.release.name, **rust})

    async def metrics(self, request: web.Request, raw: bytes, *, forget: bool = False) -> web.Response:
        """Prometheus text."""
        return web.Response(text=self._metrics.text(), content_type="text/plain")

    async def is_sleeping(self, request: web.Request, raw: bytes, *, forget: bool = False) -> web.Response:
        """Only with VLLM_SERVER_DEV_MODE=1, as the next two. What it would answer while it sleeps is not played."""
        return as_json({"is_sleeping": self._sleeps})

    async def sleep(self, request: web.Request, raw: bytes, *, forget: bool = False) -> web.Response:
        """Put the weights away."""
        self._sleeps = True
        return web.Response()

    async def wake_up(self, request: web.Request, raw: bytes, *, forget: bool = False) -> web.Response:
        """Take them back."""
        self._sleeps = False
        return web.Response()

    async def reset_prefix_cache(self, request: web.Request, raw: bytes, *, forget: bool = False) -> web.Response:
        """Only with VLLM_SERVER_DEV_MODE=1. Fails while requests hold blocks."""
        done = self._core.requests_running == 0
        if done:
            self._core.cache.clear()
        self._journal.note("reset_prefix_cache", success=done)
        return as_json({"success": done})


def _card(owner: str, name: str, root: str, parent: str | None, max_model_len: int | None) -> dict[str, Any]:
    permission = {
        "id": f"modelperm-{uuid.uuid4().hex}",
        "object": "model_permission",
        "created": int(time.time()),
        "allow_create_engine": False,
        "allow_sampling": True,
        "allow_logprobs": True,
        "allow_search_indices": False,
        "allow_view": True,
        "allow_fine_tuning": False,
        "organization": "*",
        "group": None,
        "is_blocking": False,
    }
    return {
        "id": name,
        "object": "model",
        "created": int(time.time()),
        "owned_by": owner,
        "root": root,
        "parent": parent,
        "max_model_len": max_model_len,
        "permission": [permission],
    }
