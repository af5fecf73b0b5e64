"""Which URLs may be asked at all: the operator must not become a way into networks that its users cannot reach."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from urllib.parse import urlsplit

from lora_operator.fetch.errors import FetchError

SCHEMES = frozenset({"http", "https"})


@dataclass(frozen=True, slots=True)
class HostRules:
    """`allowed`: host names that may be asked, `*.example.com` for all below; empty for any."""

    allowed: Collection[str] = ()
    schemes: frozenset[str] = SCHEMES

    def check(self, url: str) -> None:
        """Raises FetchError (ForbiddenUrl) for what may not be asked. To be called for every hop of a redirect."""
        parts = urlsplit(url)
        host = (parts.hostname or "").rstrip(".").lower()
        if parts.scheme not in self.schemes or not host:
            raise FetchError(
                "ForbiddenUrl",
                f"a URL of scheme {parts.scheme[:20]!r} is not fetched: use {' or '.join(sorted(self.schemes))}",
                retryable=False,
            )
        if self.allowed and not any(_matches(host, pattern) for pattern in self.allowed):
            raise FetchError(
                "ForbiddenUrl",
                f"host {host[:253]!r} is not one that this operator may fetch from "
                f"({', '.join(sorted(self.allowed))}): use one of those, or have it allowed in the operator's settings",
                retryable=False,
            )


def _matches(host: str, pattern: str) -> bool:
    pattern = pattern.lower()
    return host.endswith(pattern[1:]) if pattern.startswith("*.") else host == pattern
