"""One container through Azure's SDK: list, describe, read and sign. Blocking, to be called in threads.

To be imported only once such a source is asked for: the SDK takes some thirty megabytes and half a second.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, TypeVar
from urllib.parse import quote

import requests
from azure.core import MatchConditions
from azure.core.credentials import AzureNamedKeyCredential, AzureSasCredential
from azure.core.pipeline.transport import RequestsTransport
from azure.identity import CredentialUnavailableError, DefaultAzureCredential
from azure.storage.blob import BlobSasPermissions, BlobServiceClient, ExponentialRetry, generate_blob_sas
from requests.adapters import HTTPAdapter

from lora_operator.artifacts import AdapterRefused, RefusedReason
from lora_operator.fetch.hosts import HostRules
from lora_operator.fetch.manifest import Link
from lora_operator.process.authorities import bundle_for
from lora_operator.sources.azure_errors import explained
from lora_operator.sources.azure_keys import AzureKeys
from lora_operator.sources.azure_place import AzurePlace
from lora_operator.sources.base import SourceError
from lora_operator.sources.remote_connections import Lines, check_url, checked_pools
from lora_operator.sources.remote_inspection import RemoteFile
from lora_operator.sources.remote_store import Timing
from lora_operator.sources.remote_threads import cleanly, quiet, timed_out

LINK_SECONDS = 3600
NO_IDENTITY_SECONDS = 60.0
_SCOPE = "https://storage.azure.com/.default"
_DEVELOPERS = ("shared_token_cache", "visual_studio_code", "cli", "developer_cli", "powershell", "interactive_browser",
               "broker")  # fmt: skip
_T = TypeVar("_T")


def own_identity(ca_file: str = "") -> Any:
    """The identity that the surroundings give the operator: workload, managed, or a service principal."""
    trusted: dict[str, Any] = {"connection_verify": bundle} if (bundle := bundle_for(ca_file)) else {}
    return DefaultAzureCredential(**{f"exclude_{name}_credential": True for name in _DEVELOPERS}, **trusted)


class Identity:
    """The operator's own identity, if it has one. `make` gives a credential of the SDK."""

    def __init__(self, make: Callable[[], Any] = own_identity) -> None:
        quiet(("azure", "msal", "urllib3"))
        self._make = make
        self._lock = threading.Lock()
        self._credential: Any = None
        self._none_until = 0.0

    def credential(self) -> Any:
        """The credential; None if there is none, which is slow to find out."""
        with self._lock:
            if time.monotonic() < self._none_until:
                return None
            if self._credential is None:
                self._credential = self._make()
            try:
                self._credential.get_token(_SCOPE)
            except CredentialUnavailableError:
                self._none_until = time.monotonic() + NO_IDENTITY_SECONDS
                return None
            return self._credential


class AzureStore:
    """One container (see `ObjectStore`), read with `keys`, or with what the surroundings give. Raises SourceError."""

    def __init__(
        self, identity: Identity, place: AzurePlace, keys: AzureKeys | None, rules: HostRules, timing: Timing
    ) -> None:
        self.place = place.objects
        self._container_name = place.container
        self._account = place.account
        self._keys = keys
        check_url(place.url, rules)
        identity_may_go_there = place.is_azure or (bool(rules.allowed) and place.url.startswith("https://"))
        self._credential: Any = None
        if keys is not None and keys.key is not None:
            self._credential = AzureNamedKeyCredential(place.account, keys.key)
        elif keys is not None and keys.sas is not None:
            if keys.expires_at is not None and keys.expires_at < time.time():
                raise SourceError(
                    "CredentialsExpired",
                    f"{self.place.address!r}: the SAS token is expired: put a fresh one into the Secret",
                    retryable=False,
                )
            self._credential = AzureSasCredential(keys.sas)
        elif identity_may_go_there:
            self._credential = self._clean(identity.credential)
        self._lines = Lines()
        self._service = self._clean(partial(_service, place.url, self._credential, rules, self._lines, timing))
        self._container = self._service.get_container_client(place.container)

    def close(self, *, cut: bool) -> None:
        self._lines.let_go(cut=cut)
        self._service.close()

    def objects(self, deadline: float) -> Iterator[tuple[str, RemoteFile]]:
        """See `ObjectStore`."""
        for blob in self._blobs(deadline, name_starts_with=self.place.prefix or None):
            yield str(blob.name), _file(blob)

    def folders_in(self, prefix: str) -> list[str]:
        """See `ObjectStore`."""
        pages = self._container.walk_blobs(name_starts_with=prefix or None, delimiter="/").by_page()
        found = self._clean(lambda: _listed(next(pages, None))) or []
        return [str(each.name)[len(prefix) : -1] for each in found if str(each.name).endswith("/")]

    def versions(self, key: str, deadline: float) -> Iterator[RemoteFile]:
        """See `ObjectStore`."""
        for blob in self._blobs(deadline, name_starts_with=key, include=["versions"]):
            if blob.name == key:
                yield replace(_file(blob), version=str(blob.version_id or ""))

    def describe(self, key: str, file: RemoteFile) -> RemoteFile:
        """See `ObjectStore`."""
        blob = self._container.get_blob_client(key)
        properties = self._clean(partial(blob.get_blob_properties, **_exactly(file)), key)
        if int(properties.size) != file.size_bytes:
            raise AdapterRefused(RefusedReason.FILE_CHANGED, f"{file.path} changed since it was listed: wait")
        return replace(file, version=file.version or str(properties.version_id or ""))

    def read(self, key: str, file: RemoteFile, begin: int, end: int) -> bytes:
        """See `ObjectStore`."""
        blob = self._container.get_blob_client(key)

        def get() -> bytes:
            download = blob.download_blob(offset=begin, length=end - begin, max_concurrency=1, **_exactly(file))
            return bytes(download.readall())

        return self._clean(get, key)

    def link(self, key: str, file: RemoteFile) -> Link:
        """See `ObjectStore`. No narrower SAS can be made of a SAS: its link is the Secret's own."""
        query, expires_at = self._clean(partial(self._signature, key, file), key)
        version = f"versionid={quote(file.version, safe='')}" if file.version else ""
        url = f"{self.place.address}{quote(key, safe='/~')}"
        query = "&".join(part for part in (version, query) if part)
        shows_secret = self._keys is not None and self._keys.sas is not None
        return Link(f"{url}?{query}" if query else url, expires_at=expires_at, shows_secret=shows_secret)

    def _signature(self, key: str, file: RemoteFile) -> tuple[str, float | None]:
        """The query that lets anybody read a blob, and until when."""
        if self._credential is None:
            return "", None
        if self._keys is not None and self._keys.sas is not None:
            return self._keys.sas, self._keys.expires_at
        now = datetime.now(UTC)
        end = now + timedelta(seconds=LINK_SECONDS)
        signer: dict[str, Any] = (
            {"account_key": self._keys.key}
            if self._keys is not None
            else {"user_delegation_key": self._service.get_user_delegation_key(now - timedelta(minutes=5), end)}
        )
        query = generate_blob_sas(
            account_name=self._account,
            container_name=self._container_name,
            blob_name=key,
            version_id=file.version or None,
            permission=BlobSasPermissions(read=True),
            expiry=end,
            **signer,
        )
        return str(query), float(int(end.timestamp()))

    def _blobs(self, deadline: float, **what: Any) -> Iterator[Any]:
        pages = iter(self._container.list_blobs(**what).by_page())
        while (page := self._clean(lambda: _listed(next(pages, None)))) is not None:
            yield from page
            if time.monotonic() > deadline:
                raise timed_out(self.place.address)

    def _clean(self, call: Callable[[], _T], key: str = "") -> _T:
        shown = f"{self.place.address}{key}"[:300]
        return cleanly(call, lambda error: explained(error, repr(shown)))


def _listed(page: Any) -> list[Any] | None:
    return None if page is None else list(page)


def _service(url: str, credential: Any, rules: HostRules, lines: Lines, timing: Timing) -> Any:
    """A client of the account that follows no redirects: they could lead credentials elsewhere."""
    adapter = HTTPAdapter(pool_maxsize=16)
    adapter.poolmanager.pool_classes_by_scheme = checked_pools(adapter.poolmanager.pool_classes_by_scheme, rules, lines)
    session = requests.Session()
    session.mount("http://", adapter)
    session.mount("https://", adapter)
    return BlobServiceClient(
        url,
        credential=credential,
        transport=RequestsTransport(
            session=session,
            session_owner=True,
            connection_timeout=timing.connect_seconds,
            read_timeout=timing.read_seconds,
            connection_verify=bundle_for(rules.ca_file) or True,
        ),
        permit_redirects=False,
        retry_policy=ExponentialRetry(
            initial_backoff=1, increment_base=2, retry_total=timing.attempts - 1, random_jitter_range=1
        ),
        max_single_get_size=64 << 20,
    )


def _exactly(file: RemoteFile) -> dict[str, Any]:
    """The parameters for this very content of a blob."""
    pins: dict[str, Any] = {"version_id": file.version} if file.version else {}
    if file.tag:
        pins |= {"etag": f'"{file.tag}"', "match_condition": MatchConditions.IfNotModified}
    return pins


def _file(blob: Any) -> RemoteFile:
    when = blob.last_modified
    return RemoteFile(
        str(blob.name).rpartition("/")[2],
        int(blob.size or 0),
        str(blob.etag or "").strip('"'),
        modified_at=when.timestamp() if isinstance(when, datetime) else None,
    )
