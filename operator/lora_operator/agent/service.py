"""The agent's HTTP service: every route in one place, each a few lines over the store and the jobs."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress

from aiohttp import web
from pydantic import ValidationError

from lora_operator.agent.evictions import Evictions
from lora_operator.agent.jobs import Job, Jobs, Key, problem_of
from lora_operator.agent.metrics import AgentMetrics
from lora_operator.agent.readiness import Readiness
from lora_operator.agent_api.token import TokenError, TokenFile
from lora_operator.agent_api.wire import (
    MAX_BODY_BYTES,
    MAX_WAIT_SECONDS,
    MOST_HOLDERS,
    TOKEN_HEADER,
    Body,
    EntryBody,
    EvictedBody,
    HeldBody,
    ListBody,
    LoadedBody,
    OpenBody,
    OrderBody,
    ProblemBody,
    ReadinessBody,
    VersionBody,
)
from lora_operator.artifacts.names import InvalidAdapterName
from lora_operator.cache.entry import Entry
from lora_operator.cache.store_error import StoreError
from lora_operator.cache.volume import VolumeStore
from lora_operator.tracing import OFF, Tracing

log = logging.getLogger(__name__)

OPEN_PATHS = frozenset({"/healthz", "/readyz", "/metrics"})
_STATUS = {
    "InUse": 409,
    "Pinned": 409,
    "NotStored": 404,
    "InvalidName": 400,
    "InvalidHolder": 400,
    "InvalidFingerprint": 400,
}
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Loaded:
    """What the operator says that the pod's engine has or is about to get; None until it has told this process. And
    what is pinned, whoever has it loaded."""

    def __init__(self) -> None:
        self.versions: frozenset[Key] | None = None
        self.pinned: frozenset[Key] = frozenset()

    @property
    def kept(self) -> frozenset[Key] | None:
        """All that must stay."""
        return None if self.versions is None else self.versions | self.pinned


class Service:
    """`pod` ("namespace/name") holds what its engine has loaded. `troubles` says what is wrong with token and disk."""

    def __init__(
        self, store: VolumeStore, jobs: Jobs, token: TokenFile, pod: str, budget_bytes: int | None, loaded: Loaded,
        evictions: Evictions, readiness: Readiness, troubles: Callable[[], str], metrics: AgentMetrics,
        tracing: Tracing = OFF,
    ) -> None:  # fmt: skip
        self._readiness = readiness
        self._troubles = troubles
        self._store = store
        self._jobs = jobs
        self._tracing = tracing
        self._token = token
        self._pod = pod
        self._budget_bytes = budget_bytes
        self._metrics = metrics
        self._loaded = loaded
        self._evictions = evictions

    def app(self) -> web.Application:
        """The application, to be served by whoever owns the port."""
        app = web.Application(middlewares=[self._guard], client_max_size=MAX_BODY_BYTES)
        version = "/v1/adapters/{name}/{fingerprint}"
        app.add_routes(
            [
                web.put(version, self._fetch),
                web.get(version, self._look),
                web.delete(version, self._evict),
                web.put(version + "/pin", self._pin),
                web.delete(version + "/pin", self._unpin),
                web.get("/v1/adapters", self._list),
                web.put("/v1/loaded", self._note_loaded),
                web.put("/v1/readiness", self._note_readiness),
                web.delete("/v1/holders/{namespace}/{name}", self._let_go),
                web.get("/v1/statistics", self._statistics),
                web.get("/healthz", self._healthz),
                web.get("/readyz", self._readyz),
                web.get("/metrics", self._expose),
            ]
        )
        return app

    @web.middleware
    async def _guard(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Let nobody in without the token, and nothing out but bodies of ours."""
        try:
            if request.path not in OPEN_PATHS and not self._token.accepts(_credentials(request)):
                return _problem(401, "Unauthorized", "send the agent's token: Authorization: Bearer …")
            with self._tracing.continued(request.headers):
                return await handler(request)
        except web.HTTPException as error:
            return _problem(error.status, "BadRequest", error.reason)
        except ValidationError as error:
            return _problem(400, "BadRequest", f"the body makes no sense: {_shown(error)}")
        except InvalidAdapterName as error:
            return _problem(400, "InvalidName", str(error))
        except TokenError as error:
            return _problem(503, "TokenUnavailable", str(error), retryable=True)
        except StoreError as error:
            return _answer(problem_of(error), _STATUS.get(error.reason, 503 if error.retryable else 500))

    async def _fetch(self, request: web.Request) -> web.Response:
        key = self._key(request)
        order = OrderBody.model_validate_json(await request.read())
        wait = _wait(request)
        if (order.prefetch and await self._store.has(*key)) or await self._use(key, order):
            return _answer(self._brought(key, order), 200)
        job = self._jobs.start(order.to_order(*key), prefetch=order.prefetch)
        try:
            async with asyncio.timeout(wait):
                await job.news.wait()
        except TimeoutError:
            pass
        if not job.ended.is_set():
            return _answer(_under_way(key, job), 202)
        if job.problem is not None:
            return _answer(_under_way(key, job), 200)
        return _answer(self._brought(key, order), 200)

    def _brought(self, key: Key, order: OrderBody) -> EntryBody:
        """From what is known anyway: to look through the disk for each order would take longer than to load it."""
        size = sum(file.size_bytes for file in order.files)
        return EntryBody(
            name=key[0], fingerprint=key[1], state="Present", size_bytes=size, done_bytes=size,
            loaded=key in (self._loaded.versions or ()), prefetched=order.prefetch,
        )  # fmt: skip

    async def _use(self, key: Key, order: OrderBody) -> bool:
        return not order.prefetch and await self._store.use(*key)

    async def _look(self, request: web.Request) -> web.Response:
        key = self._key(request)
        job = self._jobs.get(key)
        if job is None or (job.ended.is_set() and await self._store.has(*key)):  # another agent of the node may have it
            return _answer(await self._entry(key), 200)
        return _answer(_under_way(key, job), 200)

    async def _evict(self, request: web.Request) -> web.Response:
        key = self._key(request)
        job = self._jobs.get(key)
        if job is not None and not job.ended.is_set():
            return _problem(409, "InUse", f"{key[0]} is just being fetched")
        if key in self._loaded.pinned and key not in (self._loaded.versions or ()):
            return _problem(409, "Pinned", f"{key[0]} {key[1]} is pinned by its LoraAdapter: take the pin back first")
        if not await self._store.evict(*key):
            return _problem(404, "NotStored", f"{key[0]} {key[1]} is not here")
        return web.Response(status=204)

    async def _pin(self, request: web.Request) -> web.Response:
        await self._store.pin(*self._key(request))
        return web.Response(status=204)

    async def _unpin(self, request: web.Request) -> web.Response:
        await self._store.pin(*self._key(request), pinned=False)
        return web.Response(status=204)

    async def _list(self, _: web.Request) -> web.Response:
        stored = await self._store.entries()
        there = {entry.key for entry in stored}
        entries = [self._present(entry) for entry in stored]
        entries += [_under_way(key, job) for key, job in self._jobs.items() if key not in there]
        used = sum(entry.size_bytes for entry in stored)
        return _answer(ListBody(entries=tuple(entries), used_bytes=used, budget_bytes=self._budget_bytes), 200)

    async def _note_loaded(self, request: web.Request) -> web.Response:
        body = LoadedBody.model_validate_json(await request.read())
        versions = {(version.name, version.fingerprint) for version in body.versions}
        pinned = {(version.name, version.fingerprint) for version in body.pinned}
        for version in versions | pinned:
            self._store.path_of(*version)  # refuses names that are none
        with self._tracing.span("agent hold", pod=self._pod, versions=len(versions)):
            there = await self._store.hold(self._pod, versions | pinned) & versions
        self._loaded.versions, self._loaded.pinned = frozenset(versions), frozenset(pinned)
        gone = self._evictions.take()
        holders = await self._store.holders()
        held = HeldBody(
            holders=tuple(holders[:MOST_HOLDERS]),
            versions=tuple(VersionBody(name=n, fingerprint=f) for n, f in sorted(there)),
            evicted=tuple(
                EvictedBody(name=e.name, fingerprint=e.fingerprint, size_bytes=e.size_bytes, why=e.why.value)
                for e in gone
            ),
        )
        return _answer(held, 200)

    async def _let_go(self, request: web.Request) -> web.Response:
        holder = f"{request.match_info['namespace']}/{request.match_info['name']}"
        if holder == self._pod:
            return _problem(409, "InUse", f"{holder} is the pod of this agent: say what it has loaded instead")
        await self._store.let_go(holder)
        return web.Response(status=204)

    async def _statistics(self, _: web.Request) -> web.Response:
        return web.json_response(dataclasses.asdict(await self._store.statistics()))

    async def _note_readiness(self, request: web.Request) -> web.Response:
        await self._readiness.hear(ReadinessBody.model_validate_json(await request.read()), _address(request))
        return _answer(OpenBody(open=self._readiness.is_open), 200)

    async def _healthz(self, _: web.Request) -> web.Response:
        """A new start mends neither token nor disk."""
        return web.Response(text="; ".join(filter(None, ("ok", self._troubles()))) + "\n")

    async def _readyz(self, request: web.Request) -> web.Response:
        """A pod whose adapters are loaded answers, whatever its token and its disk are like."""
        lacks = await self._readiness.lacks(_address(request))
        return web.Response(status=503 if lacks else 200, text=f"{lacks or 'ok'}\n")

    async def _expose(self, _: web.Request) -> web.Response:
        with suppress(StoreError):  # a disk that cannot be read is no reason to hide everything else
            self._metrics.holds(await self._store.statistics())
        return web.Response(body=self._metrics.exposition(), headers={"Content-Type": "text/plain; version=0.0.4"})

    def _key(self, request: web.Request) -> Key:
        """The version that a path names. Raises StoreError for what cannot be one."""
        key = (request.match_info["name"], request.match_info["fingerprint"])
        self._store.path_of(*key)
        return key

    async def _entry(self, key: Key) -> EntryBody:
        entry = next((entry for entry in await self._store.entries() if entry.key == key), None)
        if entry is None:
            raise StoreError("NotStored", f"{key[0]} {key[1]} is not here: have it fetched first", retryable=True)
        return self._present(entry)

    def _present(self, entry: Entry) -> EntryBody:
        return EntryBody(
            name=entry.name,
            fingerprint=entry.fingerprint,
            state="Present",
            size_bytes=entry.size_bytes,
            done_bytes=entry.size_bytes,
            pinned=entry.pinned or entry.key in self._loaded.pinned,
            loaded=entry.key in (self._loaded.versions or ()),
            prefetched=entry.unused,
            last_used=entry.last_used,
        )


def _under_way(key: Key, job: Job) -> EntryBody:
    return EntryBody(
        name=key[0],
        fingerprint=key[1],
        state="Failed" if job.problem is not None else "Fetching",
        size_bytes=job.size_bytes,
        done_bytes=job.done_bytes,
        prefetched=job.prefetch,
        wants_links=job.wants_links,
        problem=job.problem,
    )


def _credentials(request: web.Request) -> str:
    """As an Authorization header."""
    token = request.headers.get(TOKEN_HEADER)
    return request.headers.get("Authorization", "") if token is None else f"Bearer {token}"


def _address(request: web.Request) -> str:
    """Where this pod is reached: a kubelet asks the engine there, too."""
    name = request.get_extra_info("sockname")
    return str(name[0]) if name else "localhost"


def _wait(request: web.Request) -> float:
    try:
        seconds = float(request.query.get("wait", "0"))
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= MAX_WAIT_SECONDS:
        raise web.HTTPBadRequest(reason=f"wait must be a number of seconds from 0 to {MAX_WAIT_SECONDS:g}")
    return seconds


def _answer(body: Body, status: int) -> web.Response:
    return web.Response(status=status, body=body.model_dump_json(by_alias=True), content_type="application/json")


def _problem(status: int, reason: str, message: str, *, retryable: bool = False) -> web.Response:
    return _answer(ProblemBody(reason=reason, message=message[:2048], retryable=retryable), status)


def refuse(status: int, text: str) -> web.Response:
    """The answer to a request that reaches no handler."""
    return _problem(status, "BadRequest", text)


def _shown(error: ValidationError) -> str:
    """Where and what, never the value."""
    found = [f"{'.'.join(map(str, item['loc']))}: {item['type']}" for item in error.errors(include_input=False)[:5]]
    return "; ".join(found)[:500]
