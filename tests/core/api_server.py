"""A small stand-in for the API server on loopback: keeps objects, answers, refuses or stalls on demand.

It knows nothing of schemas, and field managers of finalizers alone; what depends on those is tested on a real API
server.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from aiohttp import web
from kubernetes.aio.client.api_client import ApiClient
from kubernetes.aio.client.configuration import Configuration

from lora_operator.kube.client import Kube
from tests.core.patches import FinalizerOwners, TestFailed, json_patched

Json = dict[str, Any]
GROUP_VERSION = "production-stack.vllm-project/v1alpha1"
ANYTHING: Json = {"x-kubernetes-preserve-unknown-fields": True}


@dataclass
class ApiServer:
    """`objects` by path; `calls` in order as (method, path); `refuse`: statuses for the next writes; `stall` holds each
    answer until it is set; `away` cuts every connection; `watcher` is told of every change."""

    objects: dict[str, Json] = field(default_factory=dict)
    calls: list[tuple[str, str]] = field(default_factory=list)
    bodies: list[Json] = field(default_factory=list)
    refuse: list[int] = field(default_factory=list)
    lists: dict[str, list[Json]] = field(default_factory=dict)
    statuses: dict[str, int] = field(default_factory=dict)  # by path: every call is refused with it
    raw: dict[str, bytes] = field(default_factory=dict)
    streams: dict[str, asyncio.Queue[Json | None]] = field(default_factory=dict)  # by path; None ends a watch
    stall: asyncio.Event | None = None
    away: bool = False
    forbid: bool = False
    release: tuple[int, int] = (1, 36)
    defined: Json | None = field(default_factory=dict)  # the definition's schema, none if it is not there
    undefined: set[str] = field(default_factory=set)  # plurals that have no definition though others have
    denied: set[str] = field(default_factory=set)  # rights that are said not to be there: "verb resource"
    unknown_fields: tuple[str, ...] = ()  # of status: dropped, as a definition does that does not know them
    watcher: Callable[[str, str, Json], None] | None = None  # event type, path, object
    version: int = 100
    _owners: dict[str, FinalizerOwners] = field(default_factory=dict)  # by uid
    kube: Kube = field(init=False)
    seen: asyncio.Condition = field(default_factory=asyncio.Condition)

    def writes(self, method: str = "") -> list[str]:
        return [path for how, path in self.calls if how != "GET" and method in ("", how)]

    async def until_calls(self, count: int) -> None:
        """Wait until so many calls have come."""
        async with self.seen:
            await self.seen.wait_for(lambda: len(self.calls) >= count)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        path = request.path
        body = json.loads(await request.read()) if request.can_read_body else {}
        if (about := self._about(path, body)) is not None and not self.away:
            return web.json_response(about)
        if "watch" in request.query:
            self._end_watch(_watched(request))
            self.streams[_watched(request)] = asyncio.Queue()
        async with self.seen:
            self.calls.append((request.method, path))
            self.bodies.append(body)
            self.seen.notify_all()
        if self.away and request.transport is not None:
            request.transport.abort()
            return web.Response(status=503)  # nobody reads it
        if self.stall is not None:
            await self.stall.wait()
        if self.forbid and request.method != "GET":
            return web.json_response({"message": "forbidden"}, status=403)
        if path in self.statuses:
            return web.json_response({"message": "refused"}, status=self.statuses[path])
        if path in self.raw:
            return web.Response(body=self.raw[path])
        if request.method == "GET":
            return await self._stream(request) if "watch" in request.query else self._read(request, path)
        if self.refuse:
            status = self.refuse.pop(0)
            return web.json_response({"message": f"refused with {status}"}, status=status)
        if request.method == "POST" and path.endswith(("/leases", "/configmaps")):
            made = f"{path}/{body['metadata']['name']}"
            if made in self.objects:
                return web.json_response({"message": "it exists already"}, status=409)
            return web.json_response(self.put(made, body), status=201)
        if request.method == "PUT":
            known = self.objects.get(path)
            if known is None or known["metadata"]["resourceVersion"] != body["metadata"]["resourceVersion"]:
                return web.json_response({"message": "somebody wrote it since"}, status=409)
            return web.json_response(self.put(path, body))
        if request.method == "POST":
            return web.json_response(body, status=201)
        if request.method == "DELETE":
            if path not in self.objects:
                return web.json_response({"message": f"{path} not found"}, status=404)
            self.delete(path)
            return web.json_response({"kind": "Status", "status": "Success"})
        return self._patch(request, path.removesuffix("/status"), body)

    def _about(self, path: str, body: Json) -> Json | None:
        """What it says of itself and of our rights; such calls are not counted."""
        major, minor = self.release
        if path == "/version":
            return {"gitVersion": f"v{major}.{minor}.0", "major": str(major), "minor": f"{minor}+"}
        if path == f"/apis/{GROUP_VERSION}":
            names = ("loraadapters", "loraendpoints") if self.defined is not None else ()
            return {"resources": [{"name": name} for name in names if name not in self.undefined]}
        if path == f"/openapi/v3/apis/{GROUP_VERSION}":
            known = {"a.b.v1alpha1.LoraAdapter": self.defined, "a.b.v1alpha1.LoraEndpoint": ANYTHING}
            return {"components": {"schemas": known if self.defined else {}}}
        if path.endswith("/selfsubjectaccessreviews"):
            asked = body["spec"]["resourceAttributes"]
            what = "/".join(filter(None, (asked["resource"], asked.get("subresource"))))
            return {"status": {"allowed": f"{asked['verb']} {what}" not in self.denied}}
        return None

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        """The changes of one object, or of what a list shows, from now on, for as long as it was asked for. Of a list
        that a test sets nothing is told."""
        queue = self.streams[_watched(request)]
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(float(request.query["timeoutSeconds"])):
                while (event := await queue.get()) is not None:
                    await response.write(json.dumps(event).encode() + b"\n")
        return response

    def _end_watch(self, path: str) -> None:
        if path in self.streams:
            self.streams[path].put_nowait(None)

    def _read(self, request: web.Request, path: str) -> web.Response:
        if path in self.lists:
            pages = self.lists[path]
            page = pages[int(request.query.get("continue", "0"))]
            return web.json_response(page | {"items": [one for one in page["items"] if _selected(one, request)]})
        if path.endswith("/pods") and (everywhere := self.lists.get("/api/v1/pods")) is not None:
            items = [one for page in everywhere for one in page["items"] if _selected(one, request)]
            return web.json_response(everywhere[0] | {"items": items})
        if path not in self.objects:
            return web.json_response({"message": f"{path} not found"}, status=404)
        return web.json_response(self.objects[path])

    def _patch(self, request: web.Request, path: str, body: Any) -> web.Response:
        known = self.objects.get(path)
        if "/loraendpoints/" in path:  # applied as a whole, and created where there is none
            uid = known["metadata"]["uid"] if known is not None else f"uid-of-{path}-{self.version}"
            return web.json_response(self.put(path, {**body, "metadata": {**body["metadata"], "uid": uid}}))
        if known is None:
            return web.json_response({"message": f"{path} not found"}, status=404)
        if request.content_type == "application/json-patch+json":
            try:
                return self._put_finalized(path, json_patched(known, body))
            except TestFailed as error:
                return web.json_response({"message": f"the server rejected our request: {error}"}, status=422)
        if "data" in body:  # a merge patch of a ConfigMap
            if body.get("metadata", {}).get("resourceVersion") not in (None, known["metadata"]["resourceVersion"]):
                return web.json_response({"message": "somebody wrote it since"}, status=409)
            data = (known.get("data") or {}) | body["data"]
            known["data"] = {key: value for key, value in data.items() if value is not None}
            return web.json_response(self.put(path, known))
        if body["metadata"].get("uid") not in (None, known["metadata"]["uid"]):
            return web.json_response({"message": "the uid in the precondition is another one"}, status=409)
        known["metadata"] |= {k: v for k, v in body["metadata"].items() if k not in ("annotations", "finalizers")}
        if request.content_type == "application/apply-patch+yaml" and not request.path.endswith("/status"):
            owners = self._owners.setdefault(known["metadata"]["uid"], FinalizerOwners())
            present, applied = known["metadata"].get("finalizers", []), body["metadata"].get("finalizers", [])
            known["metadata"]["finalizers"] = owners.apply(present, request.query["fieldManager"], applied)
        known["metadata"].setdefault("annotations", {}).update(body["metadata"].get("annotations", {}))
        if "status" in body:
            if path.startswith("/api/v1/"):  # strategic merge: conditions are a map by type
                self._merge_conditions(known["status"], body["status"])
            else:
                known["status"] = {k: v for k, v in body["status"].items() if k not in self.unknown_fields}
        return self._put_finalized(path, known)

    def _put_finalized(self, path: str, body: Json) -> web.Response:
        """Keep it, or let it go with its last finalizer."""
        answer = json.loads(json.dumps(self.put(path, body)))
        if body["metadata"].get("deletionTimestamp") and not body["metadata"].get("finalizers"):
            self.remove(path)
        return web.json_response(answer)

    @staticmethod
    def _merge_conditions(status: Json, news: Json) -> None:
        types = {condition["type"] for condition in news["conditions"]}
        kept = [one for one in status.get("conditions", []) if one["type"] not in types]
        status["conditions"] = [*kept, *news["conditions"]]

    def put(self, path: str, body: Json) -> Json:
        """Create or change an object, as a user does."""
        self.version += 1
        kind = "MODIFIED" if path in self.objects else "ADDED"
        body["metadata"]["resourceVersion"] = str(self.version)
        self.objects[path] = body
        self._tell(kind, path)
        return body

    def remove(self, path: str) -> None:
        """Delete an object for good, whatever its finalizers say."""
        self.version += 1
        self.objects[path]["metadata"]["resourceVersion"] = str(self.version)
        self._tell("DELETED", path)
        del self.objects[path]

    def delete(self, path: str) -> None:
        """Delete an object as a user does: it stays while it has finalizers."""
        body = self.objects[path]
        if not body["metadata"].get("finalizers"):
            self.remove(path)
            return
        body["metadata"]["deletionTimestamp"] = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        self.put(path, body)

    def _tell(self, kind: str, path: str) -> None:
        if path in self.streams:
            self.streams[path].put_nowait({"type": kind, "object": json.loads(json.dumps(self.objects[path]))})
        if self.watcher is not None:
            self.watcher(kind, path, json.loads(json.dumps(self.objects[path])))


def _watched(request: web.Request) -> str:
    name = request.query.get("fieldSelector", "").removeprefix("metadata.name=")
    return f"{request.path}/{name}" if name else f"{request.path}?{request.query.get('labelSelector', '')}"


def _selected(body: Json, request: web.Request) -> bool:
    """Knows `a=b,c=d` and one name."""
    labels = body["metadata"].get("labels") or {}
    pairs = [one.partition("=")[::2] for one in request.query.get("labelSelector", "").split(",") if one]
    name = request.query.get("fieldSelector", "").removeprefix("metadata.name=")
    return all(labels.get(key) == value for key, value in pairs) and name in ("", body["metadata"]["name"])


@asynccontextmanager
async def an_api_server() -> AsyncIterator[ApiServer]:
    """Serve one on a free port; `kube` talks to it."""
    server = ApiServer()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    configuration = Configuration()
    configuration.host = f"http://127.0.0.1:{runner.addresses[0][1]}"
    server.kube = Kube(ApiClient(configuration))
    try:
        yield server
    finally:
        if server.stall is not None:
            server.stall.set()
        for path in server.streams:
            server._end_watch(path)
        await server.kube.close()
        await runner.cleanup()
