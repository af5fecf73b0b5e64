"""The router API on loopback over a fleet, and a client that reads its stream as a router does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
from aiohttp import web

from lora_operator.router.api import RouterApi
from lora_operator.router.freshness import Freshness
from lora_operator.router.picker import DEFAULT_RULES
from lora_operator.router.serving import runner_of
from lora_operator.router.streams import StreamLimits
from lora_operator.router.ui.fleet import Fleet as FleetView
from lora_operator.router.usage_recorder import UsageRecorder
from lora_scheduler.routing import Rules
from tests.router.fleet import Fleet

Json = dict[str, Any]


class Clock:
    """Time that passes when a test says so."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Served:
    fleet: Fleet
    api: RouterApi
    freshness: Freshness
    clock: Clock
    session: aiohttp.ClientSession
    url: str

    async def get(self, path: str, **headers: str) -> tuple[int, Json, Mapping[str, str]]:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        async with self.session.get(self.url + path, headers=sent) as answer:
            text = await answer.text()
            return answer.status, json.loads(text) if text else {}, answer.headers

    async def post(self, path: str, body: Any) -> tuple[int, Json]:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        async with self.session.post(self.url + path, data=data) as answer:
            return answer.status, await answer.json(content_type=None)

    async def until_metric(self, line: str) -> None:
        """Ask until the metrics say so."""
        async with asyncio.timeout(60):
            while True:
                async with self.session.get(f"{self.url}/metrics") as answer:
                    if line in await answer.text():
                        return

    @asynccontextmanager
    async def watch(self, query: str = "", last: str = "") -> AsyncIterator[Reader]:
        headers = {"Last-Event-ID": last} if last else {}
        async with self.session.get(f"{self.url}/v1/watch{query}", headers=headers) as answer:
            assert answer.status == 200, await answer.text()
            yield Reader(answer)


@dataclass(frozen=True)
class Event:
    kind: str
    body: Json
    identifier: str


class Reader:
    """Events one after the other."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self.answer = answer

    async def next(self) -> Event | None:
        """None at the end of the stream."""
        fields: dict[str, str] = {}
        while True:
            async with asyncio.timeout(60):
                line = (await self.answer.content.readline()).decode()
            if not line:
                return None
            if line == "\n":
                if fields:
                    return Event(fields["event"], json.loads(fields["data"]), fields.get("id", ""))
                continue
            name, _, value = line.rstrip("\n").partition(": ")
            fields[name] = value

    async def of(self, kind: str) -> Event:
        """The next event, which must be of this kind."""
        event = await self.next()
        assert event is not None and event.kind == kind, event
        return event

    async def adapters(self) -> tuple[dict[str, Json], str]:
        """A whole snapshot, and the version to resume from."""
        found: dict[str, Json] = {}
        while True:
            event = await self.of("snapshot")
            assert event.body["first"] == (not found)
            found |= {one["name"]: one for one in event.body["adapters"]}
            if not event.body["more"]:
                return found, event.identifier
            assert not event.identifier


@asynccontextmanager
async def served(
    fleet: Fleet,
    limits: StreamLimits | None = None,
    *,
    loaded: bool = True,
    asking: UsageRecorder | None = None,
    rules: Rules = DEFAULT_RULES,
) -> AsyncIterator[Served]:
    clock = Clock()
    freshness = Freshness(clock)
    if loaded:
        freshness.heard()
        fleet.table.set_loaded()
    api = RouterApi(fleet.table, freshness, FleetView(fleet.cluster, fleet.table.epoch), limits, asking, rules=rules)
    runner = runner_of(api, 1.0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        # no limit on what one read takes: a snapshot's page is one line
        async with aiohttp.ClientSession(read_bufsize=1 << 22) as session:
            yield Served(fleet, api, freshness, clock, session, f"http://127.0.0.1:{runner.addresses[0][1]}")
    finally:
        api.stop()
        await runner.cleanup()
