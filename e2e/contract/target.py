"""What a case talks to: a server, folders of adapters, and how to read its answers."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from .by_release import FLAT_ERRORS, release_of
from .frontend import Frontend

HERE = Path(__file__).parent
ADAPTERS = HERE / "adapters"
BASE = "tiny"
KEY = "a-key-for-the-suite"
SHORT = [1, *range(40, 60)]
LONG = [1, *(40 + (7 * i) % 300 for i in range(300))]  # longer than two blocks of the prefix cache

_COMPUTED_BY = re.compile(r"adapter=\S+ weights=(\w+) cached=(\w+)")


@dataclass(frozen=True, slots=True)
class Reply:
    """One HTTP answer."""

    status: int
    text: str
    content_type: str | None

    @property
    def json(self) -> Any:
        """Its body."""
        return json.loads(self.text)


@dataclass(frozen=True, slots=True)
class Problem:
    """An error answer, read in the release's shape."""

    status: int
    kind: str
    message: str


Launch = Callable[[Sequence[str], Mapping[str, str]], Awaitable[tuple[int, str]]]


@dataclass(slots=True)
class Target:
    """A running server. `scratch` is an empty folder that the server can read; `key` is sent with every request."""

    url: str
    version: str
    session: aiohttp.ClientSession
    scratch: Path
    is_real: bool
    frontend: Frontend = Frontend.PYTHON
    key: str | None = None
    exit_code: Callable[[], Awaitable[int]] | None = None  # waits for the server's process to end
    restart: Callable[[], Awaitable[str]] | None = None  # starts it anew and returns its URL
    launch: Launch | None = None  # tries a command line: exit code and output
    release: tuple[int, ...] = field(init=False)
    next_name: int = 0
    _copies: int = 0

    def __post_init__(self) -> None:
        self.release = release_of(self.version)

    def fixture(self, name: str) -> str:
        """The path of a checked-in adapter, not to be changed."""
        return str(ADAPTERS / name)

    def copy(self, name: str) -> Path:
        """A private copy of an adapter under a path that no other case uses."""
        self._copies += 1
        folder = self.scratch / f"{name}-{self._copies}"
        shutil.copytree(ADAPTERS / name, folder)
        return folder

    async def request(self, method: str, path: str, *, key: str | None = None, **options: Any) -> Reply:
        """Any request. `key` replaces the usual one; "" sends none."""
        headers = dict(options.pop("headers", {}))
        key = self.key if key is None else key
        if key:
            headers.setdefault("Authorization", f"Bearer {key}")
        async with self.session.request(method, self.url + path, headers=headers, **options) as response:
            return Reply(response.status, await response.text(), response.headers.get("Content-Type"))

    async def get(self, path: str, **options: Any) -> Reply:
        """GET."""
        return await self.request("GET", path, **options)

    async def post(self, path: str, body: object, **options: Any) -> Reply:
        """POST of JSON."""
        return await self.request("POST", path, json=body, **options)

    async def load(self, name: str, path: str | Path, **fields: Any) -> Reply:
        """POST /v1/load_lora_adapter."""
        return await self.post("/v1/load_lora_adapter", {"lora_name": name, "lora_path": str(path), **fields})

    async def must_load(self, name: str, path: str | Path, **fields: Any) -> None:
        """Load, and fail the case where that fails."""
        reply = await self.load(name, path, **fields)
        assert reply.status == 200, reply

    async def unload(self, name: str, **fields: Any) -> Reply:
        """POST /v1/unload_lora_adapter."""
        return await self.post("/v1/unload_lora_adapter", {"lora_name": name, **fields})

    async def models(self) -> list[dict[str, Any]]:
        """The cards of GET /v1/models."""
        reply = await self.get("/v1/models")
        assert reply.status == 200, reply
        cards: list[dict[str, Any]] = reply.json["data"]
        return cards

    async def names(self) -> list[str]:
        """The adapters that are listed, in order."""
        return [card["id"] for card in await self.models() if card["parent"] is not None]

    async def forget_all(self) -> None:
        """Unload everything, so that the next case finds an empty server."""
        for card in await self.models():
            name = card["id"]
            if card["parent"] is not None and (await self.unload(name)).status == 500:  # evicted: see rust_frontend
                await self.load(name, card["root"], load_inplace=True)
                await self.unload(name)

    async def complete(self, model: str, prompt: object = None, **fields: Any) -> Reply:
        """POST /v1/completions, greedy."""
        body = {"model": model, "prompt": SHORT if prompt is None else prompt, "max_tokens": 6, "temperature": 0}
        return await self.post("/v1/completions", {**body, "ignore_eos": True, **fields})

    async def answer(self, model: str, prompt: object = None, **fields: Any) -> str:
        """What is answered, so that two answers are equal exactly where the same weights computed them."""
        reply = await self.complete(model, prompt, **fields)
        assert reply.status == 200, reply
        return comparable(str(reply.json["choices"][0]["text"]))

    async def stream(self, model: str, prompt: object = None, **fields: Any) -> AsyncIterator[str]:
        """The pieces of a streamed completion."""
        body = {"model": model, "prompt": SHORT if prompt is None else prompt, "max_tokens": 6, "temperature": 0}
        body |= {"ignore_eos": True, "stream": True, **fields}
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        async with self.session.post(self.url + "/v1/completions", json=body, headers=headers) as response:
            async for line in response.content:
                text = line.decode().strip().removeprefix("data: ")
                if text and text != "[DONE]":
                    event = json.loads(text)
                    yield event["choices"][0]["text"] if "choices" in event else f"<error {text}>"

    def problem(self, reply: Reply) -> Problem:
        """The parts of an error answer, after checking that it has this release's shape."""
        body = reply.json
        if not FLAT_ERRORS[self.release]:
            assert list(body) == ["error"], reply
            body = body["error"]
        else:
            assert body["object"] == "error", reply
        assert {"message", "type", "param", "code"} <= body.keys(), reply
        assert body["code"] == reply.status, reply
        return Problem(reply.status, body["type"], body["message"])

    def expect(self, reply: Reply, status: int, kind: str) -> str:
        """The message of an error answer, after checking status and type."""
        assert reply.status == status, reply
        problem = self.problem(reply)
        assert problem.kind == kind, reply
        return problem.message


def comparable(text: str) -> str:
    """A simulator says which weights computed an answer, under which name; the name does not matter here."""
    match = _COMPUTED_BY.search(text)
    if match is None:
        return text
    weights, cached = match.groups()
    return f"weights={weights} {'right' if cached in ('none', weights) else 'stale'}"
