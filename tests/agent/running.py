"""A real agent on loopback, and what a caller says to it."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp

from lora_operator.agent.app import serving
from lora_operator.agent.settings import AgentSettings
from lora_operator.agent_api.wire import OrderBody
from lora_operator.fetch.limits import Limits
from lora_operator.fetch.manifest import FetchManifest
from tests.fetch.ordered import LIMITS

TOKEN = "t0ken-of-the-agents"
POD = "ns/vllm-0"


@dataclass(frozen=True)
class Answer:
    status: int
    text: str

    @property
    def body(self) -> dict[str, Any]:
        return dict(json.loads(self.text))

    @property
    def reason(self) -> str:
        return str(self.body["reason"])


class Agent:
    """Speaks to the agent at `port`; everything that it answered is in `heard`."""

    def __init__(self, session: aiohttp.ClientSession, port: int, root: Path) -> None:
        self.session = session
        self.port = port
        self.root = root
        self.heard: list[str] = []

    async def ask(
        self, method: str, path: str, body: Any = None, *, token: str | None = TOKEN, data: bytes | None = None
    ) -> Answer:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        content = json.dumps(body).encode() if body is not None else data
        url = f"http://127.0.0.1:{self.port}{path}"
        async with self.session.request(method, url, headers=headers, data=content) as response:
            answer = Answer(response.status, await response.text())
        self.heard.append(answer.text)
        return answer

    async def fetch(self, order: FetchManifest, *, wait: float = 20, prefetch: bool = False) -> Answer:
        body = OrderBody.of(order, prefetch=prefetch).model_dump_json(by_alias=True).encode()
        return await self.ask("PUT", f"{place(order)}?wait={wait:g}", data=body)

    async def loaded(self, *versions: tuple[str, str]) -> Answer:
        body = {"versions": [{"name": name, "fingerprint": version} for name, version in versions]}
        return await self.ask("PUT", "/v1/loaded", body)

    async def ready(self, container: str, *, is_open: bool, message: str = "") -> Answer:
        body = {"container": container, "open": is_open, "message": message}
        return await self.ask("PUT", "/v1/readiness", body)

    def folder(self, order: FetchManifest) -> Path:
        return self.root / order.name / order.fingerprint


def place(order: FetchManifest) -> str:
    return f"/v1/adapters/{order.name}/{order.fingerprint}"


@asynccontextmanager
async def an_agent(
    folder: Path, *, limits: Limits = LIMITS, root: Path | None = None, token: str = TOKEN, **settings: Any
) -> AsyncIterator[Agent]:
    """An agent in this process, on a free port, with its disk in `folder`/disk, or in `root` as that is."""
    disk, token_file = root or folder / "disk", folder / "token"
    if root is None:
        disk.mkdir(exist_ok=True)
    token_file.write_text(token + "\n")
    base = AgentSettings(root=disk, token_file=str(token_file), pod=POD, host="127.0.0.1", port=0)
    async with serving(replace(base, **settings), limits) as port, aiohttp.ClientSession() as session:
        yield Agent(session, port, disk)
