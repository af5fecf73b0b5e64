"""Adapters in folders of a web server, which cannot be listed: known names are looked for."""

from __future__ import annotations

import asyncio

from lora_operator.artifacts import CONFIG_FILE, WEIGHTS_FILE, InvalidAdapterName, valid_adapter_name
from lora_operator.artifacts.folder import PICKLE_FILES
from lora_operator.sources.base import SourceError, SourceRequest
from lora_operator.sources.http_client import HttpClient, refusal, shown
from lora_operator.sources.http_files import etag_of, look_at, url_below
from lora_operator.sources.http_ranges import read_range
from lora_operator.sources.remote import RemoteFolder, check_number
from lora_operator.sources.remote_inspection import RemoteFile
from lora_operator.sources.remote_troubles import Trouble
from lora_operator.sources.selection import passes

# Beside the adapter's own files, those that make inspection refuse it or explain what is missing.
_LOOKED_FOR = (CONFIG_FILE, WEIGHTS_FILE, "new_embeddings.safetensors")
_AT_ONCE = 8


class WebFolders:
    """The folders of one request at one server, by their URLs. Raises SourceError."""

    def __init__(self, client: HttpClient, largest_bytes: int) -> None:
        self._client = client
        self._largest_bytes = largest_bytes
        self._places = asyncio.Semaphore(_AT_ONCE)

    async def find(self, url: str, root_name: str, request: SourceRequest) -> tuple[list[RemoteFolder], list[Trouble]]:
        """The adapter at `url` itself, or else those in the folders below it that the request names."""
        try:
            root = await self._folder(url, root_name)
        except SourceError as error:
            # file stores that allow no listing say 403 of what is not there
            if error.reason != "AccessDenied" or not request.adapters:
                raise
            root = None
        if root is not None:
            return [root], []
        if not request.adapters:
            raise SourceError(
                "NoAdapterHere",
                f"{shown(url)} has no {CONFIG_FILE}, and folders on a web server cannot be listed: give the URL of an "
                "adapter's folder or of an archive, or name the folders below it in adapters",
                retryable=False,
            )
        names = sorted(
            {name for name in request.adapters if passes(name, request.pattern, request.prefix, request.adapters)}
        )
        check_number(len(names), request)
        return await self._below(url, names)

    async def _below(self, url: str, names: list[str]) -> tuple[list[RemoteFolder], list[Trouble]]:
        folders: list[RemoteFolder] = []
        troubles: list[Trouble] = []
        failures: list[SourceError] = []

        async def look(name: str) -> None:
            try:
                valid_adapter_name(name)
                folder = await self._folder(url_below(url, name), name)
            except InvalidAdapterName as error:
                troubles.append(Trouble(name, "InvalidName", str(error)))
            except SourceError as error:
                failures.append(error)
                troubles.append(Trouble(name, error.reason, error.message, error.retryable))
            else:
                folders.extend([folder] if folder is not None else [])

        await asyncio.gather(*map(look, names))
        if failures and len(failures) == len(names):
            raise failures[0]
        return folders, troubles

    async def _folder(self, url: str, name: str) -> RemoteFolder | None:
        """What there is of an adapter in the folder at `url`; None if there is nothing."""
        config, weights, *others = await asyncio.gather(*(self._file(url, path) for path in _LOOKED_FOR))
        if config is None and weights is None:
            return None
        if weights is None:
            others += await asyncio.gather(*(self._file(url, path) for path in PICKLE_FILES))
        files = tuple(file for file in (config, weights, *others) if file is not None)
        return RemoteFolder(name, url.rstrip("/"), files, f"http\0{url.rstrip('/')}")

    async def _file(self, url: str, path: str) -> RemoteFile | None:
        async with self._places:
            try:
                return await look_at(self._client, url_below(url, path), path, self._largest_bytes)
            except SourceError as error:
                if path in (CONFIG_FILE, WEIGHTS_FILE) or error.retryable:
                    raise
                return None  # whether it is there cannot be told, and most adapters have no such file

    async def describe(self, location: str, file: RemoteFile) -> RemoteFile:
        """See `StoreReader`: everything was told at the first look."""
        return file

    async def read(self, location: str, file: RemoteFile, begin: int, end: int) -> bytes:
        """See `StoreReader`."""
        if begin >= end:
            return b""
        url, client = url_below(location, file.path), self._client
        return await read_range(
            client,
            url,
            file,
            begin,
            end,
            lambda answer: refusal(url, answer.status, answer.headers, has_secret=client.has_secret),
            etag_of(file),
        )
