"""Which URLs may be asked at all: the operator must not become a way into networks that its users cannot reach."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from urllib.parse import urlsplit

from lora_operator.fetch.addresses import Address, as_address, is_metadata, is_private
from lora_operator.fetch.errors import FetchError

SCHEMES = frozenset({"http", "https"})


@dataclass(frozen=True, slots=True)
class HostRules:
    """`allowed`: host names that may be asked, `*.example.com` for all below; empty for any.

    `deny_private`: only addresses of the open internet, but for the hosts in `private` (same form), which may be inside
    the cluster. Addresses where clouds hand out credentials are never asked.
    `ca_file`: certificates that are believed beside the system's, see `authorities`.
    """

    allowed: Collection[str] = ()
    schemes: frozenset[str] = SCHEMES
    deny_private: bool = False
    private: Collection[str] = ()
    ca_file: str = ""

    def check(self, url: str) -> None:
        """Raises FetchError (ForbiddenUrl) for what may not be asked. To be called for every hop of a redirect."""
        try:
            parts = urlsplit(url)
            host = _plain(parts.hostname or "")
            scheme = parts.scheme
        except ValueError:  # an address in brackets that is none
            scheme, host = "", ""
        if scheme not in self.schemes or not host:
            raise FetchError(
                "ForbiddenUrl",
                f"a URL of scheme {scheme[:20]!r} is not fetched: use {' or '.join(sorted(self.schemes))} and a host",
                retryable=False,
            )
        if self.allowed and not host_matches(host, self.allowed):
            raise FetchError(
                "ForbiddenUrl",
                f"host {host[:253]!r} is not one that this operator may fetch from "
                f"({', '.join(sorted(self.allowed))}): use one of those, or have it allowed in the operator's settings",
                retryable=False,
            )
        address = as_address(host)
        if address is not None:
            self.check_address(host, address)

    def check_address(self, host: str, address: Address) -> None:
        """Raises FetchError (ForbiddenAddress) for an address that `host` stands for and that may not be asked.

        To be called with the very address that is connected to: a name may stand for another one a moment later.
        """
        host = _plain(host)
        if is_metadata(address):
            raise FetchError(
                "ForbiddenAddress",
                f"host {host[:253]!r} is at an address that is reserved for a machine's own network: correct the URL",
                retryable=False,
            )
        if self.deny_private and is_private(address) and not host_matches(host, self.private):
            raise FetchError(
                "ForbiddenAddress",
                f"host {host[:253]!r} is at a private address, which this operator may not fetch from: use a public "
                "host, or have this one allowed in the operator's settings",
                retryable=False,
            )


def _plain(host: str) -> str:
    return host.rstrip(".").lower()


def host_matches(host: str, patterns: Collection[str]) -> bool:
    """Whether a host in lower case is one of these: names, and `*.example.com` for all below."""
    lowered = (pattern.lower() for pattern in patterns)
    return any(host.endswith(pattern[1:]) if pattern.startswith("*.") else host == pattern for pattern in lowered)
