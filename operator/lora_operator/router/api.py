"""The HTTP API: reads the table. All that is ever written is who was asked for, where that is loaded on demand."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from http import HTTPStatus
from types import MappingProxyType
from typing import Any, TypeVar

from aiohttp import web
from pydantic import ValidationError

from lora_operator.router.deciding import Chosen, Decider, Loading, Outcome, Refused, Unknown, not_found
from lora_operator.router.freshness import Freshness
from lora_operator.router.lines import Lines, dumped, with_member
from lora_operator.router.matching import best_job, match_json
from lora_operator.router.metrics import RouterMetrics
from lora_operator.router.openapi import document
from lora_operator.router.pages import BadToken, page_of
from lora_operator.router.parameters import (
    FleetQuestion,
    ListQuestion,
    PodsQuestion,
    WatchQuestion,
    read_path_name,
    read_query,
)
from lora_operator.router.pick_answer import candidates_json, loading_json, picked_json, together_json
from lora_operator.router.picker import DEFAULT_RULES, HASH, NAMES, Picker
from lora_operator.router.prefix_affinity import PrefixAffinity
from lora_operator.router.prefix_index import MOST_BLOCKS
from lora_operator.router.prefix_metrics import PrefixMetrics
from lora_operator.router.problems import Problem
from lora_operator.router.prompt_blocks import NO_PROMPT, Prompt, prompt_of
from lora_operator.router.queries import AmbiguousAdapter, UnknownAdapter, find
from lora_operator.router.select_answer import select_json, selected
from lora_operator.router.selecting import Selector
from lora_operator.router.semantic import Semantic
from lora_operator.router.several import Together, Wanted, found, pick_several, request_of
from lora_operator.router.streams import Selection, StreamLimits, Streams, rounded
from lora_operator.router.table import RoutingTable
from lora_operator.router.topics import Topics
from lora_operator.router.ui.fleet import Fleet
from lora_operator.router.ui.page import VERSION_HEADER, Page
from lora_operator.router.usage_recorder import UsageRecorder
from lora_operator.router.wire import MatchRequest, PickRequest, SelectRequest, Wire
from lora_scheduler.routing import Rules

BODY_BYTES = 64 << 10
BODY_SECONDS = 10.0
RETRY_SECONDS = 1
AGE_HEADER = "X-Table-Age-Seconds"
STREAM_HEADERS = {
    "Content-Type": "text/event-stream",
    "Cache-Control": "no-cache, no-transform",
    "X-Accel-Buffering": "no",  # some proxies would collect events otherwise
}

NOTHING: Mapping[str, Any] = MappingProxyType({})
Asked = TypeVar("Asked", bound=Wire)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class RouterApi:
    """One table over HTTP."""

    def __init__(
        self, table: RoutingTable, freshness: Freshness, fleet: Fleet, limits: StreamLimits | None = None,
        asking: UsageRecorder | None = None, semantic: Semantic | None = None, rules: Rules = DEFAULT_RULES,
        lacks: Callable[[], str] = lambda: "", stale: Callable[[], str] = lambda: "",
        prefix_blocks: int = MOST_BLOCKS,
    ) -> None:  # fmt: skip
        """`lacks`: what the table cannot be filled without; `stale`: what is not seen though the API server answers."""
        self._table = table
        self._freshness = freshness
        self.fleet = fleet
        self._lacks, self._stale = lacks, stale
        self._page = Page()
        self.metrics = RouterMetrics(table, freshness, lambda: self.streams.open)
        self.picker = Picker(
            table, rules=rules, prefixes=PrefixAffinity(prefix_blocks), pods=fleet.pod,
            scored=partial(self.metrics.scored, "pick"),
        )  # fmt: skip
        self.decider = Decider(table, self.picker, asking)
        self.selector = Selector(Topics(table), semantic)
        self._lines = Lines(table)
        self.streams = Streams(table, self._lines, freshness, limits or StreamLimits())
        self.metrics.registry.register(PrefixMetrics(self.picker.prefixes))
        self._document = json.dumps(document())

    def stop(self) -> None:
        """Let go all clients that wait for something."""
        self.streams.stop()
        self.decider.stop()
        self.selector.stop()

    def application(self) -> web.Application:
        app = web.Application(client_max_size=BODY_BYTES)
        routes: tuple[tuple[str, str, Handler], ...] = (
            ("GET", "/v1/adapters", self._adapters),
            ("GET", "/v1/adapters/{name}/pods", self._pods),
            ("GET", "/v1/watch", self._watch),
            ("POST", "/v1/pick", self._pick),
            ("POST", "/v1/match", self._match),
            ("POST", "/v1/select", self._select),
            ("GET", "/v1/fleet", self._fleet),
            ("GET", "/ui", self._page.redirect),
            ("GET", "/ui/{file:[^/]*}", self._page.file),
            ("GET", "/openapi.json", self._openapi),
            ("GET", "/healthz", self._healthz),
            ("GET", "/readyz", self._readyz),
            ("GET", "/metrics", self._exposition),
        )
        for method, path, handler in routes:
            app.router.add_route(method, path, self._guarded(path, handler))
            app.router.add_route("*", path, self._guarded(path, _refuse_method(method)))
        app.router.add_route("*", "/{tail:.*}", self._guarded("other", _refuse_path))
        return app

    def _guarded(self, route: str, handler: Handler) -> Handler:
        """Count, and answer what goes wrong as a problem. No middleware: aiohttp's costs more than a pick does."""

        async def answer(request: web.Request) -> web.StreamResponse:
            response: web.StreamResponse
            try:
                response = await handler(request)
            except Problem as problem:
                response = problem.response()
            except (UnknownAdapter, AmbiguousAdapter) as error:
                response = _problem(not_found(error)).response()
            except web.HTTPRequestEntityTooLarge:
                response = Problem("body-too-large", f"a body may have {BODY_BYTES} bytes").response()
            self.metrics.request(route, response.status)
            return response

        return answer

    def _need_table(self) -> None:
        if not self._table.loaded:
            raise Problem(
                "table-not-loaded",
                "the API server has not been listed yet; ask another replica, or this one again",
                retry_after_seconds=RETRY_SECONDS,
            )

    def _headers(self) -> dict[str, str]:
        age = rounded(self._freshness.age_seconds)
        return {} if age is None else {AGE_HEADER: str(age)}

    async def _adapters(self, request: web.Request) -> web.StreamResponse:
        asked = read_query(ListQuestion, request)
        self._need_table()
        tag = f'"{self._table.tag}"'
        headers = self._headers() | {"ETag": tag, "Cache-Control": "no-cache"}
        if _matches(request.headers.get("If-None-Match", ""), tag):
            return web.Response(status=HTTPStatus.NOT_MODIFIED, headers=headers)
        try:
            page = page_of(
                self._table, asked.base_model, asked.namespace, loaded_only=not asked.include_unloaded,
                limit=asked.limit, token=asked.token,
            )  # fmt: skip
        except BadToken as error:
            raise Problem("bad-request", f"{error}; begin anew without it") from error
        body: dict[str, Any] = {"version": self._table.tag} | ({"continue": page.token} if page.token else {})
        lines = b",".join(self._lines.of(entry) for entry in page.entries)
        return _json(with_member(body, "adapters", b"[" + lines + b"]"), headers)

    async def _pods(self, request: web.Request) -> web.StreamResponse:
        asked = read_query(PodsQuestion, request)
        name = read_path_name(request)
        self._need_table()
        entry = find(self._table, name, asked.namespace)
        version = b',"version":"' + self._table.tag.encode() + b'"}'
        return _json(self._lines.of(entry)[:-1] + version, self._headers())

    async def _pick(self, request: web.Request) -> web.StreamResponse:
        asked = await _read_body(request, PickRequest)
        policy = asked.policy or self.picker.rules.policy
        if policy not in NAMES:
            raise Problem("bad-request", f"policy {policy!r} does not exist; use one of {', '.join(NAMES)}")
        if (policy == HASH) != (asked.key is not None):
            raise Problem("bad-request", f"a key is for policy {HASH!r}, which needs one; give both or neither")
        if asked.adapter is None:
            return self._pick_several(asked, policy)
        prompt = prompt_of({"prompt": asked.prompt, "messages": asked.messages}, asked.session or "")
        why = self._explained(asked, prompt)
        what = asked.adapter, asked.namespace, policy, asked.key or "", frozenset(asked.avoid)
        started = time.perf_counter()
        outcome: Outcome = self.decider.choose(*what, prompt=prompt)
        self.metrics.picked(time.perf_counter() - started)
        if isinstance(outcome, Refused) and (asked.wait_seconds or (outcome.entry and outcome.entry.on_demand)):
            outcome = await self.decider.decide(*what, wait_seconds=asked.wait_seconds, prompt=prompt)
        if isinstance(outcome, Chosen):
            return _json(dumped(picked_json(outcome, self._table.tag) | why), self._headers())
        if isinstance(outcome, Loading):
            headers = self._headers() | {"Retry-After": str(outcome.retry_after_seconds)}
            return _json(dumped(loading_json(outcome, self._table.tag)), headers, HTTPStatus.ACCEPTED)
        raise _problem(outcome, why)

    def _pick_several(self, asked: PickRequest, policy: str) -> web.StreamResponse:
        if policy == HASH:
            raise Problem("bad-request", f"policy {HASH!r} is for one adapter; use one of {', '.join(NAMES)}")
        self._need_table()
        why, wanted = self._explained(asked), _wanted(asked)
        started = time.perf_counter()
        outcome = pick_several(self.picker, found(self._table, wanted), wanted, policy)
        self.metrics.picked(time.perf_counter() - started)
        if isinstance(outcome, Together):
            self.decider.used(outcome.entries)
        if isinstance(outcome, Refused):
            raise _problem(outcome, why)
        return _json(dumped(together_json(outcome, policy, self._table.tag) | why), self._headers())

    def _explained(self, asked: PickRequest, prompt: Prompt = NO_PROMPT) -> dict[str, Any]:
        """What pods score before the pick, which counts as sent."""
        if not asked.explain or not self._table.loaded:
            return {}
        wanted = _wanted(asked)
        ask = request_of(self.picker, found(self._table, wanted), wanted, prompt)
        return {"candidates": candidates_json(self.picker.explain(ask))}

    async def _match(self, request: web.Request) -> web.StreamResponse:
        asked = await _read_body(request, MatchRequest)
        self._need_table()
        worker, job = best_job(self._table, self.picker, asked)
        if job is not None:
            self.metrics.scored("match", job.score)
        return _json(dumped(match_json(worker, job, self._table.tag)), self._headers())

    async def _select(self, request: web.Request) -> web.StreamResponse:
        asked = await _read_body(request, SelectRequest)
        self._need_table()
        found = await selected(self.selector, asked)
        self.metrics.selected(found.method, adapter=found.subject is not None)
        return _json(dumped(select_json(found, asked, self.decider, self._table.tag)), self._headers())

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        asked = read_query(WatchQuestion, request)
        self._need_table()
        if self.streams.full:
            raise Problem(
                "too-many-streams", "as many as are allowed; ask another replica", retry_after_seconds=RETRY_SECONDS
            )
        response = web.StreamResponse(headers=STREAM_HEADERS | self._headers())
        await response.prepare(request)
        last = request.headers.get("Last-Event-ID") or asked.last_event_id
        ended = await self.streams.serve(request, response, Selection(asked.base_model, asked.namespace), last)
        self.metrics.stream_ended(ended)
        return response

    async def _fleet(self, request: web.Request) -> web.StreamResponse:
        asked = read_query(FleetQuestion, request)
        self._need_table()
        return _json(
            await self.fleet.answer(asked.since, self._freshness),
            {"Cache-Control": "no-store", VERSION_HEADER: self._page.tag},
        )

    async def _openapi(self, _: web.Request) -> web.StreamResponse:
        return web.Response(text=self._document, content_type="application/json")

    async def _healthz(self, _: web.Request) -> web.StreamResponse:
        return web.Response(text="ok\n")

    async def _readyz(self, _: web.Request) -> web.StreamResponse:
        age, away = rounded(self._freshness.age_seconds), self._freshness.away
        message = self._lacks() or ("" if self._table.loaded else "the API server has not been listed yet")
        stale = "" if message else self._stale()
        ready = self._table.loaded and not stale
        if away and ready and not message:
            message = f"the API server does not answer; the table is as it was {age:g} s ago"
        body = {
            "ready": ready,
            "version": self._table.tag,
            "adapters": len(self._table),
            "ageSeconds": age,
            "apiServer": "Unknown" if age is None else "Away" if away else "Reachable",
            "message": message or stale,
        }
        return _json(dumped(body), {}, HTTPStatus.OK if ready else HTTPStatus.SERVICE_UNAVAILABLE)

    async def _exposition(self, _: web.Request) -> web.StreamResponse:
        headers = {"Content-Type": "text/plain; version=0.0.4"}
        return web.Response(body=self.metrics.exposition(), headers=headers)


async def _read_body(request: web.Request, model: type[Asked]) -> Asked:
    """The body as the model has it. Raises Problem."""
    if request.query_string:
        raise Problem("bad-request", f"POST {request.path} takes no query parameters; put everything into the body")
    try:
        async with asyncio.timeout(BODY_SECONDS):
            body = await request.read()
    except TimeoutError as error:
        raise Problem("body-too-slow", f"the whole body has to come within {BODY_SECONDS:g} s") from error
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise Problem("bad-request", f"the body: {_first(error)}") from error


def _json(data: bytes, headers: dict[str, str], status: int = HTTPStatus.OK) -> web.Response:
    return web.Response(status=status, body=data, headers={"Content-Type": "application/json"} | headers)


def _matches(if_none_match: str, tag: str) -> bool:
    return any(one.strip().removeprefix("W/") in (tag, "*") for one in if_none_match.split(","))


def _first(error: ValidationError) -> str:
    problem = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in problem["loc"])
    return f"{where}: {problem['msg']}" if where else str(problem["msg"])


def _wanted(asked: PickRequest) -> Wanted:
    own = (asked.adapter,) if asked.adapter is not None else tuple(asked.adapters)
    return Wanted(own, tuple(asked.shared), asked.namespace, frozenset(asked.avoid), asked.may_load)


def _problem(outcome: Refused | Unknown, more: Mapping[str, Any] = NOTHING) -> Problem:
    if isinstance(outcome, Refused):
        reason = {"reason": outcome.reason} if outcome.reason else {}
        return Problem(outcome.kind, outcome.message, retry_after_seconds=outcome.retry_after_seconds, **reason, **more)
    if outcome.namespaces:
        return Problem("ambiguous-adapter", outcome.message, namespaces=list(outcome.namespaces))
    return Problem("unknown-adapter", outcome.message, near=list(outcome.near))


def _refuse_method(allowed: str) -> Handler:
    async def refuse(request: web.Request) -> web.StreamResponse:
        raise Problem("method-not-allowed", f"{request.path} is for {allowed}", allow=allowed)

    return refuse


async def _refuse_path(request: web.Request) -> web.StreamResponse:
    raise Problem("unknown-path", f"there is no {request.path[:200]}; GET /openapi.json tells what there is")
