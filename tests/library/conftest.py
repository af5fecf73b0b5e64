"""A library on loopback, with a database of either kind and a folder as its store."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from httpx2 import ASGITransport, AsyncClient

from e2e.stores.postgres import PostgresServer, PostgresUnavailable
from lora_library.database import Database
from lora_library.service import Parts, built
from lora_library.settings import LibrarySettings
from lora_library.web.app import application

TOKENS = {
    "token-of-alice": {"subject": "alice", "groups": ["poets"]},
    "token-of-bob": {"subject": "bob"},
    "token-of-root": {"subject": "root", "admin": True},
}


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    try:
        server = PostgresServer(tmp_path_factory.mktemp("postgres"))
    except PostgresUnavailable as error:
        pytest.skip(str(error))
    yield server
    server.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of an empty database, of either kind."""
    if request.param == "sqlite":
        return str(tmp_path / "another.db")
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.database()


@pytest.fixture
async def database(address: str) -> AsyncIterator[Database]:
    """With its tables."""
    opened = Database(address)
    await opened.migrate()
    yield opened
    await opened.close()


def settings_for(folder: Path, **options: Any) -> LibrarySettings:
    tokens = folder / "tokens.json"
    tokens.write_text(json.dumps(TOKENS))
    given: dict[str, Any] = {
        "database": str(folder / "library.db"), "store": str(folder / "store"), "cluster": False,
        "work_folder": str(folder / "work"), "token_file": str(tokens),
    }  # fmt: skip
    return LibrarySettings(**(given | options))


def parts_of(adapter: Path) -> list[tuple[str, tuple[str, bytes]]]:
    return [("file", (each.name, each.read_bytes())) for each in sorted(adapter.iterdir())]


class User:
    """One who has a token, and calls the API."""

    def __init__(self, client: AsyncClient, token: str) -> None:
        self._client = client
        self._headers = {"Authorization": f"Bearer {token}"}

    async def call(self, method: str, path: str, **options: Any) -> tuple[int, Any]:
        """(status, JSON body)."""
        answer = await self._client.request(method, path, headers=self._headers, **options)
        body = answer.json() if answer.content and "json" in answer.headers.get("Content-Type", "") else answer.content
        return answer.status_code, body

    async def upload(self, adapter: Path, name: str, **fields: Any) -> tuple[int, Any]:
        files = parts_of(adapter)
        return await self.call("POST", "/api/loras/upload", files=files, data={"name": name, **fields})


class Running:
    """A library and who uses it."""

    def __init__(self, parts: Parts, client: AsyncClient, folder: Path) -> None:
        self.parts, self.client, self.folder = parts, client, folder
        self.alice, self.bob, self.root = (User(client, f"token-of-{name}") for name in ("alice", "bob", "root"))

    @property
    def stored(self) -> list[str]:
        """The keys of the store."""
        return sorted(each.key for each in self.parts.library.store.keys(""))


@contextlib.asynccontextmanager
async def served(folder: Path, **options: Any) -> AsyncIterator[Running]:
    async with built(settings_for(folder, **options)) as parts:
        transport = ASGITransport(app=application(parts.library), raise_app_exceptions=False)
        async with AsyncClient(transport=transport, base_url="http://library") as client:
            yield Running(parts, client, folder)


@pytest.fixture
async def library(tmp_path: Path) -> AsyncIterator[Running]:
    async with served(tmp_path) as running:
        yield running
