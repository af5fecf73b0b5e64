"""Adapters on any web server: in a folder, in folders that the resource names, or in an archive."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from urllib.parse import unquote, urlsplit

from lora_operator.artifacts import CONFIG_FILE, WEIGHTS_FILE, AdapterRefused
from lora_operator.fetch.hosts import HostRules
from lora_operator.fetch.limits import Limits
from lora_operator.fetch.order import FetchFile, FetchOrder, Link
from lora_operator.sources.base import FoundAdapter, Resolution, SourceError, SourceRequest
from lora_operator.sources.http_client import HttpClient, Patience
from lora_operator.sources.http_files import etag_of, look_at, pinned_headers, url_below
from lora_operator.sources.http_folder import WebFolders
from lora_operator.sources.remote import changed, noted_file, resolve_folders
from lora_operator.sources.remote_troubles import merged


class HttpSource:
    """Reads http and https URLs, with the Secret's `token` as a bearer token for the URL's own origin.

    `limits` are those that a fetch would have: what is larger is refused before. `clock` gives Unix time.
    """

    def __init__(
        self,
        *,
        rules: HostRules | None = None,
        patience: Patience | None = None,
        limits: Limits | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._rules = rules
        self._patience = patience
        self._limits = limits or Limits()
        self._clock = clock

    async def resolve(self, request: SourceRequest, previous: Resolution | None) -> Resolution:
        """See `Source`."""
        async with self._client(request) as client:
            url = request.repository
            web = WebFolders(client, self._limits.file_bytes)
            folders, troubles = await web.find(url, _name_of(url), request)
            found = await resolve_folders(folders, web, request, previous, now=self._clock())
            return merged(found, troubles, request, previous, None)

    async def locate(self, request: SourceRequest, found: FoundAdapter) -> FetchOrder:
        """See `Source`: the weights by their own URL, with the token's header if there is one."""
        config, weights = noted_file(found, CONFIG_FILE), noted_file(found, WEIGHTS_FILE)
        async with self._client(request) as client:
            url = url_below(found.location, WEIGHTS_FILE)
            if await look_at(client, url, WEIGHTS_FILE, self._limits.file_bytes) != weights:
                raise changed(found.name)
            web = WebFolders(client, self._limits.file_bytes)
            try:
                raw = await web.read(found.location, config, 0, config.size_bytes)
            except AdapterRefused:
                raise changed(found.name) from None
            if hashlib.sha256(raw).hexdigest() != config.sha256:
                raise changed(found.name)
            link = Link(url, client.authorization(url) | pinned_headers(weights), tag=etag_of(weights))
            inline = FetchFile(CONFIG_FILE, len(raw), config.sha256, inline=raw)
            return FetchOrder(
                found.name, found.fingerprint, (inline, FetchFile(WEIGHTS_FILE, weights.size_bytes, link=link))
            )

    def _client(self, request: SourceRequest) -> HttpClient:
        url = request.repository
        try:
            parts = urlsplit(url)
            plain = bool(parts.hostname) and not (parts.username or parts.password or parts.query or parts.fragment)
        except ValueError:
            plain = False
        if not plain:
            raise SourceError(
                "BadRepository",
                "for type http, repository must be an http(s) URL without user name, password, query or fragment: "
                "credentials belong in credentialsSecretRef",
                retryable=False,
            )
        token = request.credentials.get("token") if request.credentials is not None else None
        return HttpClient(url, token, rules=self._rules, patience=self._patience)


def _name_of(url: str) -> str:
    """What an adapter right at `url` is called."""
    return unquote(urlsplit(url).path.rstrip("/").rpartition("/")[2]) or "root"
