"""What a request says of its endpoint and what its Secret holds, checked. Pure; nothing secret is quoted."""

from __future__ import annotations

from urllib.parse import urlsplit

from lora_operator.sources.base import Credentials, SourceError


def endpoint_of(text: str | None) -> str | None:
    """The endpoint in one common form. Raises SourceError (BadEndpoint), without quoting it: it may hold a key."""
    if not text:
        return None
    advice = "write scheme, host and port only, like https://minio.example.com:9000"
    try:
        parts = urlsplit(text)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port, parts = None, None, urlsplit("")
    if parts.scheme not in ("http", "https") or not host or not text.isascii() or not text.isprintable():
        raise SourceError("BadEndpoint", f"the endpoint is not an http or https URL: {advice}", retryable=False)
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise SourceError(
            "BadEndpoint", f"the endpoint has a user, a query or a fragment: {advice}; keys go into a Secret",
            retryable=False,
        )  # fmt: skip
    shown_host = f"[{host}]" if ":" in host else host
    return f"{parts.scheme}://{shown_host}{f':{port}' if port else ''}{parts.path.rstrip('/')}"


def secret_value(credentials: Credentials, name: str, *, spaces: bool = False) -> str:
    """What the Secret has under `name`, "" for nothing. Raises SourceError (CredentialsMalformed)."""
    value = (credentials.get(name) or "").strip()
    if not value.isascii() or not value.isprintable() or (" " in value and not spaces):
        raise SourceError(
            "CredentialsMalformed",
            f"the Secret's {name} has characters that no such value has: put it there bare, without quotes, line "
            "breaks or a second encoding",
            retryable=False,
        )
    return value
