"""Adapters on any web server: in a folder, in folders that the resource names, or in an archive."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import replace
from urllib.parse import unquote, urlsplit

from lora_operator.artifacts import CONFIG_FILE, WEIGHTS_FILE, AdapterRefused
from lora_operator.artifacts.found import FoundAdapter
from lora_operator.fetch.hosts import HostRules
from lora_operator.fetch.limits import Limits
from lora_operator.fetch.manifest import Archive, FetchFile, FetchManifest, Link
from lora_operator.sources.base import BrokenAdapter, Resolution, SourceError, SourceRequest
from lora_operator.sources.credential_hosts import authorization_of
from lora_operator.sources.http_archive import ABOUT_ARCHIVE, archive_kind, folder_of, read_archive, without_suffix
from lora_operator.sources.http_client import HttpClient, Patience, refusal
from lora_operator.sources.http_files import etag_of, look_at, pinned_headers, url_below
from lora_operator.sources.http_folder import WebFolders
from lora_operator.sources.http_links import link_to
from lora_operator.sources.remote import asked_for, changed, noted_file, resolve_folders
from lora_operator.sources.remote_inspection import RemoteFile
from lora_operator.sources.remote_threads import Threads
from lora_operator.sources.remote_tree import without_duplicates
from lora_operator.sources.remote_troubles import Marked, merged, unchanged


class HttpSource:
    """Reads http and https URLs, with the Secret's `token`, or `username` and `password`, for the URL's own origin.

    `limits` are those that a fetch would have: what is larger is refused before. An archive has to be read within
    `archive_seconds`. `clock` gives Unix time.
    """

    def __init__(
        self,
        *,
        rules: HostRules | None = None,
        patience: Patience | None = None,
        limits: Limits | None = None,
        archive_seconds: float = 900.0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._rules = rules
        self._patience = patience
        self._limits = limits or Limits()
        self._archive_seconds = archive_seconds
        self._threads = Threads("http")
        self._clock = clock

    async def resolve(self, request: SourceRequest, previous: Resolution | None) -> Resolution:
        """See `Source`."""
        url = request.repository
        async with self._client(request) as client:
            kind = archive_kind(url)
            if kind is not None:
                return await self._resolve_archive(client, kind, request, previous)
            web, folder = WebFolders(client, self._limits.file_bytes), folder_of(url)
            folders, troubles = await web.find(folder, _name_of(folder), request)
            found = await resolve_folders(folders, web, request, previous, now=self._clock())
            return merged(found, troubles, request, previous, None)

    async def _resolve_archive(
        self, client: HttpClient, kind: str, request: SourceRequest, previous: Resolution | None
    ) -> Resolution:
        url = request.repository
        name = without_suffix(_name_of(url))
        archive = await self._archive(client, url)
        same = unchanged(previous, archive)
        if same is not None:
            return same
        try:
            web = await read_archive(client, url, kind, archive, self._threads, self._limits, self._archive_seconds)
        except SourceError as error:
            if error.reason not in ABOUT_ARCHIVE:
                raise
            # noted like an adapter's own defect, so that it is not read again before it changes
            broken = (BrokenAdapter(name, error.reason, error.message, archive),)
            before = previous.adapters if previous is not None else ()
            if any(found.name == name for found in before):
                return Marked(before, stale=broken, mark=archive)
            return Marked(before, broken, mark=archive)
        folders, duplicates = without_duplicates(asked_for(web.folders(name), request.adapters))
        found = await resolve_folders(folders, web, request, previous, now=self._clock())
        return merged(found, duplicates, request, previous, archive)

    async def _archive(self, client: HttpClient, url: str) -> RemoteFile:
        archive = await look_at(client, url, _name_of(url), self._limits.archive_bytes)
        if archive is None:
            raise refusal(url, 404, {}, has_secret=client.has_secret)
        return archive

    async def locate(self, request: SourceRequest, found: FoundAdapter) -> FetchManifest:
        """See `Source`: the weights, or the archive, by their own URL, with the token's header where it is needed."""
        config, weights = noted_file(found, CONFIG_FILE), noted_file(found, WEIGHTS_FILE)
        async with self._client(request) as client:
            kind = archive_kind(request.repository)
            if kind is not None:
                archive = await self._archive(client, request.repository)
                if archive.tag != weights.version:
                    raise changed(found.name)
                files = (FetchFile(file.path, file.size_bytes, file.sha256) for file in (config, weights))
                link = await self._link(client, request.repository, archive)
                source = Archive(link, kind, found.location, archive.size_bytes)
                return FetchManifest(found.name, found.fingerprint, tuple(files), source)
            url = url_below(found.location, WEIGHTS_FILE)
            now = await look_at(client, url, WEIGHTS_FILE, self._limits.file_bytes)
            if now != weights and (now is None or weights.etag or now.by_time != weights):
                raise changed(found.name)
            web = WebFolders(client, self._limits.file_bytes)
            try:
                raw = await web.read(found.location, config, 0, config.size_bytes)
            except AdapterRefused:
                raise changed(found.name) from None
            if hashlib.sha256(raw).hexdigest() != config.sha256:
                raise changed(found.name)
            inline = FetchFile(CONFIG_FILE, len(raw), config.sha256, inline=raw)
            linked = FetchFile(WEIGHTS_FILE, weights.size_bytes, link=await self._link(client, url, weights))
            return FetchManifest(found.name, found.fingerprint, (inline, linked))

    async def _link(self, client: HttpClient, url: str, file: RemoteFile) -> Link:
        link = await link_to(client, url, self._clock())
        return replace(link, headers={**link.headers, **pinned_headers(file)}, tag=etag_of(file))

    def _client(self, request: SourceRequest) -> HttpClient:
        url = request.repository
        try:
            parts = urlsplit(url)
            plain = (
                bool(parts.hostname)
                and parts.port != 0
                and not (parts.username or parts.password or parts.query or parts.fragment)
            )
        except ValueError:
            plain = False
        if not plain:
            raise SourceError(
                "BadRepository",
                "for type http, repository must be an http(s) URL without user name, password, query or fragment: "
                "credentials belong in credentialsSecretRef",
                retryable=False,
            )
        return HttpClient(url, authorization_of(request, url), rules=self._rules, patience=self._patience)


def _name_of(url: str) -> str:
    """What an adapter right at `url` is called."""
    return unquote(urlsplit(url).path.rstrip("/").rpartition("/")[2]) or "root"
