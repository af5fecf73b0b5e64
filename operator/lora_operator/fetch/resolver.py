"""Turns host names into addresses that the rules allow, and lets nothing else be connected to."""

from __future__ import annotations

import socket

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

from lora_operator.fetch.addresses import as_address
from lora_operator.fetch.hosts import HostRules
from lora_operator.fetch.proxies import is_proxy


class CheckedResolver(AbstractResolver):
    """Asks the system's resolver, once per connection: what is checked here is what is connected to."""

    def __init__(self, rules: HostRules, inner: AbstractResolver | None = None) -> None:
        self._rules = rules
        self._inner = inner or ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """The addresses of `host`. Raises OSError where it has none, FetchError if one of them is forbidden."""
        found = await self._inner.resolve(host, port, family)
        for result in found:
            address = as_address(result["host"])
            if address is None:
                raise OSError(None, "the resolver gave a name for a name")
            if not is_proxy(host):
                self._rules.check_address(host, address)
        return found

    async def close(self) -> None:
        """Close the resolver below."""
        await self._inner.close()
