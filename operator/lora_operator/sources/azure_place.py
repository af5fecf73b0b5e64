"""What a request says about Azure Blob Storage, checked: account, container, prefix and its URL. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from lora_operator.sources.base import SourceRequest
from lora_operator.sources.remote_objects import ObjectPlace, bad_repository, split_prefix
from lora_operator.sources.remote_request import endpoint_of

_ACCOUNT = re.compile(r"[a-z0-9]{3,24}", re.ASCII)
_CONTAINER = re.compile(r"\$root|\$web|[a-z0-9](-?[a-z0-9]){2,62}", re.ASCII)
_AZURE = re.compile(
    r"https://[a-z0-9]{3,24}\.blob\.core\.(windows\.net|chinacloudapi\.cn|usgovcloudapi\.net)", re.ASCII
)
_FORMS = "write account/container, account/container/prefix, or the container's URL"


@dataclass(frozen=True, slots=True)
class AzurePlace:
    """`url` is the account's, without a trailing '/'."""

    account: str
    container: str
    url: str
    objects: ObjectPlace

    @property
    def is_azure(self) -> bool:
        """Whether Azure itself answers there."""
        return bool(_AZURE.fullmatch(self.url))


def place_of(request: SourceRequest, blob_endpoint: str | None = None) -> AzurePlace:
    """Where the request points; `blob_endpoint` is a connection string's. Raises SourceError (BadRepository, …)."""
    text = request.repository
    endpoint = endpoint_of(request.endpoint) or endpoint_of(blob_endpoint)
    if "://" in text:
        account, url, path = _split_url(text)
    else:
        shown = f"azure repository {text[:300]!r}"
        if "?" in text or "#" in text:
            raise bad_repository(f"the azure repository has a query: {_FORMS}; a SAS token goes into the Secret")
        account, _, path = text.partition("/")
        if not _ACCOUNT.fullmatch(account):
            raise bad_repository(f"{shown} does not begin with a storage account's name: {_FORMS}")
        url = _account_url(account, endpoint)
    container, _, rest = path.partition("/")
    shown = f"azure container {container[:100]!r} of account {account!r}"
    if not _CONTAINER.fullmatch(container):
        raise bad_repository(f"{shown} is no container's name: {_FORMS}")
    prefix, last = split_prefix(rest, shown)
    address = f"{url}/{container}/"
    return AzurePlace(account, container, url, ObjectPlace(address, prefix, last or container, f"azure {address}"))


def _split_url(text: str) -> tuple[str, str, str]:
    """A container's URL -> (account, account's URL, container and prefix). The query, a SAS maybe, is not quoted."""
    try:
        parts = urlsplit(text)
    except ValueError:  # an address in brackets that is none
        raise bad_repository(f"the azure repository is no URL: {_FORMS}") from None
    if parts.query or parts.fragment or "@" in parts.netloc:
        raise bad_repository(f"the azure repository's URL has a query or a user: {_FORMS}; a SAS goes into the Secret")
    host_url = endpoint_of(f"{parts.scheme}://{parts.netloc}") or ""
    path = unquote(parts.path).lstrip("/")
    first = (parts.hostname or "").partition(".")[0]
    if ".blob." in (parts.hostname or "") and _ACCOUNT.fullmatch(first):
        return first, host_url, path
    account, _, path = path.partition("/")
    if not _ACCOUNT.fullmatch(account):
        raise bad_repository(f"the azure repository's URL names no storage account: {_FORMS}")
    return account, f"{host_url}/{account}", path


def _account_url(account: str, endpoint: str | None) -> str:
    if endpoint is None:
        return f"https://{account}.blob.core.windows.net"
    host = urlsplit(endpoint).hostname or ""
    if host.partition(".")[0] == account or endpoint.endswith(f"/{account}"):
        return endpoint
    return f"{endpoint}/{account}"
