"""The HTTP surface: which path leads where, what is guarded, and where faults strike."""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

from aiohttp import web

from .core import EngineCore
from .faults import Fault, Faults
from .generation_api import GenerationApi
from .journal import Journal
from .lora_api import LoraApi
from .metrics import Metrics
from .other_tasks import OtherTasks
from .registry import Refused, Registry
from .replies import METHOD_NOT_ALLOWED, NOT_FOUND, as_error, as_json
from .rust_frontend import RustRegistry
from .status_api import StatusApi

SCORES = ("/v1/rerank", "/v2/rerank", "/rerank", "/v1/score", "/score", "/pooling", "/classify")


class Handler(Protocol):
    """What answers one request."""

    def __call__(self, request: web.Request, raw: bytes, *, forget: bool = False) -> Awaitable[web.StreamResponse]: ...


@dataclass(frozen=True, slots=True)
class Route:
    """The methods of a path, and what faults and counters call it."""

    endpoint: str
    handlers: dict[str, Handler]


class Application:
    """Every request passes `dispatch`: the simulator's own paths first, then faults, the key, and the route."""

    def __init__(self, core: EngineCore, journal: Journal, faults: Faults, crash: Callable[[int], None]) -> None:
        self._settings = core.settings
        self._journal, self._faults, self._crash = journal, faults, crash
        self.registry = RustRegistry(core) if core.settings.rust_frontend else Registry(core)
        generation = GenerationApi(core, self.registry)
        metrics = Metrics(core, generation)
        core.on_activity = metrics.note_activity
        self._routes = self._make_routes(core, generation, metrics)
        self.web = web.Application(client_max_size=64 << 20)
        self.web.router.add_route("*", "/{tail:.*}", self.dispatch)

    def _make_routes(self, core: EngineCore, generation: GenerationApi, metrics: Metrics) -> dict[str, Route]:
        status = StatusApi(core, self.registry, metrics, self._journal)
        lora = LoraApi(core, self.registry, self._journal)
        others = OtherTasks(core, self.registry)
        ping: dict[str, Handler] = {"GET": status.health, "POST": status.health}
        routes = {
            "/v1/models": Route("models", {"GET": status.models}),
            "/v1/completions": Route("completions", {"POST": generation.complete}),
            "/v1/chat/completions": Route("chat", {"POST": generation.chat}),
            "/v1/embeddings": Route("other", {"POST": others.embed}),
            "/v1/responses": Route("other", {"POST": others.respond}),
            "/v1/audio/transcriptions": Route("other", {"POST": others.transcribe}),
            **dict.fromkeys(SCORES, Route("other", {"POST": others.score})),
            "/health": Route("health", {"GET": status.health}),
            "/version": Route("version", {"GET": status.version}),
            "/metrics": Route("metrics", {"GET": status.metrics}),
        }
        if not self._settings.rust_frontend:
            routes["/invocations"] = Route("invocations", {"POST": generation.invoke})
            routes["/ping"] = Route("ping", ping)
        if self._settings.runtime_updating:
            routes["/v1/load_lora_adapter"] = Route("load", {"POST": lora.load})
            routes["/v1/unload_lora_adapter"] = Route("unload", {"POST": lora.unload})
            if self._settings.release.has_sagemaker_adapters and not self._settings.rust_frontend:
                routes["/adapters"] = Route("load", {"POST": lora.load_sagemaker})
                routes["/adapters/*"] = Route("unload", {"DELETE": lora.unload_sagemaker})
        if self._settings.dev_mode:
            routes["/is_sleeping"] = Route("other", {"GET": status.is_sleeping})
            routes["/sleep"] = Route("other", {"POST": status.sleep})
            routes["/wake_up"] = Route("other", {"POST": status.wake_up})
            routes["/reset_prefix_cache"] = Route("other", {"POST": status.reset_prefix_cache})
        return routes

    def _route(self, path: str) -> Route | None:
        return self._routes.get("/adapters/*" if path.startswith("/adapters/") else path)

    async def dispatch(self, request: web.Request) -> web.StreamResponse:
        """Answer anything."""
        if request.path.startswith("/sim/"):
            return await self._simulator(request)
        raw = await request.read()
        route = self._route(request.path)
        endpoint = route.endpoint if route else "other"
        self._journal.calls[endpoint] += 1
        met = self._faults.hit(endpoint, _adapter_name(raw) if endpoint in ("load", "unload") else None)
        early = await self._strike_before(request, met)
        if early is not None:
            return early
        response = await self._answer(request, raw, route, forget=any(f.kind == "forget_unload" for f in met))
        return await self._strike_after(request, met, response)

    async def _answer(
        self, request: web.Request, raw: bytes, route: Route | None, *, forget: bool
    ) -> web.StreamResponse:
        if not self._authorized(request):
            return as_json({"error": "Unauthorized"}, 401)
        if route is None:
            return web.Response(status=404) if self._settings.rust_frontend else as_json(NOT_FOUND, 404)
        handler = route.handlers.get(request.method)
        if handler is None:
            return web.Response(status=405) if self._settings.rust_frontend else as_json(METHOD_NOT_ALLOWED, 405)
        try:
            return await handler(request, raw, forget=forget)
        except Refused as refused:
            response = as_error(refused, self._settings.release)
            if refused.closes:
                await response.prepare(request)
                await response.write_eof()
                if request.transport is not None:
                    request.transport.close()
            return response

    def _authorized(self, request: web.Request) -> bool:
        if not self._settings.api_keys or request.method == "OPTIONS":
            return True
        if not request.path.startswith(self._settings.release.guarded_prefixes):
            return True
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        matches = [hmac.compare_digest(given.encode(), key.encode()) for key in self._settings.api_keys]
        return scheme.lower() == "bearer" and any(matches)

    async def _strike_before(self, request: web.Request, met: list[Fault]) -> web.StreamResponse | None:
        for fault in met:
            if fault.kind in ("hang", "slow"):
                await fault.wait()
            elif fault.kind == "crash":
                self._crash(fault.exit_code)
                return web.Response(status=500)
            elif fault.kind == "drop" and not fault.after:
                return _cut(request)
            elif fault.kind == "status":
                return as_error(Refused(fault.status, "InternalServerError", "fault"), self._settings.release)
        return None

    async def _strike_after(
        self, request: web.Request, met: list[Fault], response: web.StreamResponse
    ) -> web.StreamResponse:
        for fault in met:
            if fault.kind == "late":
                await fault.wait()
            elif fault.kind == "drop":
                return _cut(request)
        return response

    async def _simulator(self, request: web.Request) -> web.StreamResponse:
        if request.path == "/sim/events":
            return as_json(self._journal.as_json())
        if request.path != "/sim/faults":
            return as_json({"error": f"nothing at {request.path}: use /sim/faults or /sim/events"}, 404)
        try:
            if request.method == "POST":
                options: dict[str, Any] = await request.json()
                self._faults.add(options.pop("kind", ""), options.pop("endpoint", None), **options)
            elif request.method == "DELETE":
                fault_id = request.query.get("id")
                self._faults.clear(int(fault_id) if fault_id else None)
        except (ValueError, TypeError, AttributeError) as exc:
            return as_json({"error": str(exc)}, 400)
        return as_json({"faults": self._faults.as_json()})


def _adapter_name(raw: bytes) -> str | None:
    try:
        body = json.loads(raw)
    except ValueError:
        return None
    return (body.get("lora_name") or body.get("name")) if isinstance(body, dict) else None


def _cut(request: web.Request) -> web.Response:
    """Close the connection without an answer."""
    if request.transport is not None:
        request.transport.abort()
    raise asyncio.CancelledError
