"""Which hosts a Secret may be sent to. Who may write a LoraAdapter chooses the host, and need not be allowed to read
the Secret that it names: the host has to be one that the keeper of the Secret, or of the operator, has named.

A host that speaks S3 needs no leave: what is sent there is a signature that no other host accepts.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Collection
from urllib.parse import urlsplit

from lora_operator.fetch.hosts import host_matches
from lora_operator.sources.base import Credentials, SourceError, SourceRequest
from lora_operator.sources.remote_request import secret_value

HOSTS_ANNOTATION = "production-stack.vllm-project/hosts"


def check_may_go(credentials: Credentials, url: str, known_urls: Collection[str] = ()) -> None:
    """Raises SourceError (CredentialsForOtherHost) unless `url` is at an allowed host, or at that of a known URL."""
    if credentials.hosts is None:
        return
    host = _host(url)
    if host in {_host(known) for known in known_urls} or host_matches(host, credentials.hosts):
        return
    raise SourceError(
        "CredentialsForOtherHost",
        f"the Secret may not be sent to host {host[:253]!r}: annotate the Secret with {HOSTS_ANNOTATION}: {host[:253]} "
        "if it is meant for that, or allow the host with the operator's --credential-host",
        retryable=False,
    )


def token_of(request: SourceRequest, url: str, known_urls: Collection[str] = ()) -> str | None:
    """The Secret's `token` for `url`, None without one. Raises SourceError (as above; CredentialsMalformed)."""
    token = secret_value(request.credentials, "token") if request.credentials is not None else ""
    if request.credentials is not None and token:
        check_may_go(request.credentials, url, known_urls)
    return token or None


def bearer_of(request: SourceRequest, url: str, known_urls: Collection[str] = ()) -> str | None:
    """The header Authorization with the Secret's `token`; see `token_of`."""
    token = token_of(request, url, known_urls)
    return f"Bearer {token}" if token else None


def authorization_of(request: SourceRequest, url: str) -> str | None:
    """The header Authorization for `url`, of the Secret's `token`, or of `username` and `password`. Raises as above."""
    given = request.credentials
    if given is None or given.get("token"):
        return bearer_of(request, url)
    names = ("username", "password")
    user, password = (secret_value(given, name, spaces=True) for name in names)
    if not user and not password:
        return None
    if not user or ":" in user:
        raise SourceError(
            "CredentialsIncomplete",
            "the Secret has a password, and no username that can go with it (one without a colon): correct it, or put "
            "a token into its key 'token'",
            retryable=False,
        )
    check_may_go(given, url)
    return f"Basic {b64encode(f'{user}:{password}'.encode()).decode()}"


def _host(url: str) -> str:
    try:
        return (urlsplit(url).hostname or "").rstrip(".").lower()
    except ValueError:
        return ""
