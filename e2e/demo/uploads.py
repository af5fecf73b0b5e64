"""Stores that the demo's adapters are uploaded to: how to put files there, and what a LoraAdapter says to find them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Protocol

from e2e.controlplane.errors import BinariesError
from e2e.demo.errors import CannotStart
from e2e.stores.azure import ACCOUNT, KEY, AzureServer, AzuriteUnavailable
from e2e.stores.hub import LocalHub, Repository
from e2e.stores.s3 import KEYS
from e2e.stores.s3.chosen import s3_server_name, start_s3_server
from e2e.stores.store_process import StoreError
from e2e.stores.web import WebStore

BUCKET = "adapters"
ORGANISATION = "acme"
TOKEN = "hf_tokenOfTheExampleHub"


class Upload(Protocol):
    """`secret`: what the Secret of the LoraAdapters has to hold. To be closed."""

    title: str
    secret: Mapping[str, str]

    def put(self, path: str, files: Mapping[str, bytes]) -> None:
        """Put the files of the adapter `path` there, or replace them. A path has one or two parts."""
        ...  # pragma: no cover

    def source(self, path: str) -> dict[str, object]:
        """The adapterSource of the adapter, or of the folder of adapters, at `path`."""
        ...  # pragma: no cover

    def close(self) -> None:
        """End the store."""
        ...  # pragma: no cover


class ServedInThread:
    """Runs an asyncio server beside code that is not asynchronous, until `close`."""

    def __init__(self, server: AbstractAsyncContextManager[object]) -> None:
        self._server = server
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._ready: Future[None] = Future()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._run(),), daemon=True)
        self._thread.start()
        self._ready.result(30)

    async def _run(self) -> None:
        try:
            async with self._server:
                self._ready.set_result(None)
                await self._stop.wait()
        except Exception as error:
            if self._ready.done():
                raise
            self._ready.set_exception(error)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        self._loop.close()


class S3Upload:
    """moto's server, or the one that S3_SERVER names."""

    secret: Mapping[str, str] = KEYS

    def __init__(self, folder: Path) -> None:
        name = s3_server_name()
        self.title = f"an S3 bucket ({name})"
        self.server = start_s3_server(folder, name)
        self.server.client.create_bucket(Bucket=BUCKET)

    def put(self, path: str, files: Mapping[str, bytes]) -> None:
        """See `Upload`."""
        self.server.put(BUCKET, {f"{path}/{name}": content for name, content in files.items()})

    def source(self, path: str) -> dict[str, object]:
        """See `Upload`."""
        return {"type": "s3", "repository": f"{BUCKET}/{path}", "endpoint": self.server.endpoint, "region": "us-east-1"}

    def close(self) -> None:
        self.server.close()


class AzureUpload:
    """Azurite. Raises AzuriteUnavailable."""

    title = "an Azure container (Azurite)"
    secret: Mapping[str, str] = {"AZURE_STORAGE_ACCOUNT_KEY": KEY}

    def __init__(self, folder: Path) -> None:
        self.server = AzureServer(folder)
        self._container: Any = self.server.client.create_container(BUCKET)

    def put(self, path: str, files: Mapping[str, bytes]) -> None:
        """See `Upload`."""
        for name, content in files.items():
            self._container.upload_blob(f"{path}/{name}", content, overwrite=True)

    def source(self, path: str) -> dict[str, object]:
        """See `Upload`."""
        return {"type": "azure", "repository": f"{ACCOUNT}/{BUCKET}/{path}", "endpoint": self.server.endpoint}

    def close(self) -> None:
        self.server.close()


class HubUpload:
    """A local Hugging Face hub with private repositories: one for each first part of a path."""

    title = "private repositories of a Hugging Face hub (a local one)"
    secret: Mapping[str, str] = {"token": TOKEN}

    def __init__(self, folder: Path) -> None:
        self.hub = LocalHub(tokens=frozenset({TOKEN}))
        self._files: dict[str, dict[str, bytes]] = {}
        self._served = ServedInThread(self.hub)

    def put(self, path: str, files: Mapping[str, bytes]) -> None:
        """See `Upload`; one commit each time."""
        top, _, below = path.partition("/")
        there = self._files.setdefault(top, {})
        there.update({f"{below}/{name}" if below else name: content for name, content in files.items()})
        name = f"{ORGANISATION}/{top}"
        repository = self.hub.repositories.setdefault(name, Repository(name, readers=self.hub.tokens))
        repository.commit(there)

    def allow(self, token: str) -> None:
        """Let in who shows this token, and nobody else."""
        self.hub.tokens = frozenset({token})
        for repository in self.hub.repositories.values():
            repository.readers = self.hub.tokens

    def source(self, path: str) -> dict[str, object]:
        """See `Upload`."""
        return {"type": "huggingface", "repository": f"{ORGANISATION}/{path}", "endpoint": self.hub.url}

    def close(self) -> None:
        self._served.close()


class WebUpload:
    """A web server with adapters; an `Upload` without a Secret."""

    title = "a web server"
    secret: Mapping[str, str] = {}

    def __init__(self, listen: str = "127.0.0.1") -> None:
        self.server = WebStore({})
        self.server.listen = listen
        self._served = ServedInThread(self.server)

    def put(self, path: str, files: Mapping[str, bytes]) -> None:
        """See `Upload`."""
        for name, content in files.items():
            self.server.files[f"/{path}/{name}"] = content

    def source(self, path: str) -> dict[str, object]:
        """See `Upload`."""
        return {"type": "http", "repository": self.server.url(f"/{path}/", host=self.server.listen)}

    def read(self, path: str) -> int:
        """How often bytes of this file were asked for."""
        return sum(asked.method == "GET" and asked.path == f"/{path}" for asked in self.server.requests)

    def close(self) -> None:
        self._served.close()


def open_store(kind: str, directory: Path) -> Upload:
    """Start a store of this kind, with its log in `directory`. Raises CannotStart."""
    try:
        return UPLOADS[kind](directory)
    except (AzuriteUnavailable, BinariesError, StoreError, ValueError) as error:
        raise CannotStart(f"the store cannot be started: {error}; or choose another: STORE=s3, STORE=hf") from error


UPLOADS: Mapping[str, Callable[[Path], Upload]] = {"s3": S3Upload, "azure": AzureUpload, "hf": HubUpload}
