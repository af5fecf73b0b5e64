"""Lets the connections of SDKs that use urllib3 lead only to addresses that the rules allow.

A name that was checked may stand for another address a moment later: what counts is who was really connected to, and
that is looked at before a byte is sent.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from typing import Any

from lora_operator.fetch.addresses import as_address
from lora_operator.fetch.errors import FetchError
from lora_operator.fetch.hosts import HostRules
from lora_operator.sources.base import SourceError


def check_url(url: str, rules: HostRules) -> None:
    """Raises SourceError where the rules forbid `url`."""
    try:
        rules.check(url)
    except FetchError as error:
        raise SourceError(error.reason, f"endpoint: {error.message}", retryable=error.retryable) from None


def checked_pools(pools: Mapping[str, Any], rules: HostRules) -> dict[str, Any]:
    """urllib3's pool classes by scheme -> the same, whose connections raise FetchError for a forbidden address."""
    return {scheme: _checked(pool, rules) for scheme, pool in pools.items()}


def forbidden_address(error: BaseException | None) -> FetchError | None:
    """The FetchError that a connection raised, out of what the SDK wrapped around it."""
    return next((each for each in _inside(error) if isinstance(each, FetchError)), None)


def is_dns(error: BaseException | None) -> bool:
    """Whether `error` comes from a host name that is not known."""
    return any(isinstance(each, socket.gaierror) or "NameResolution" in type(each).__name__ for each in _inside(error))


def wait_seconds(text: object) -> float | None:
    """How long an answer's Retry-After asks to wait, at most an hour."""
    return min(float(text), 3600.0) if isinstance(text, str) and text.isdecimal() else None


def _inside(error: BaseException | None) -> Iterator[BaseException]:
    """`error` and what it was raised from, or what it wraps in the way of botocore or Azure's SDK."""
    for _ in range(10):
        if error is None:
            return
        yield error
        wrapped = (getattr(error, "kwargs", {}).get("error"), getattr(error, "inner_exception", None))
        inner = next((each for each in wrapped if isinstance(each, BaseException)), None)
        error = inner or error.__cause__ or error.__context__


def _checked(pool: Any, rules: HostRules) -> Any:
    def _new_conn(self: Any) -> socket.socket:
        connected: socket.socket = pool.ConnectionCls._new_conn(self)
        try:
            address = as_address(str(connected.getpeername()[0]))
            if address is not None:
                rules.check_address(self.host, address)
        except BaseException:
            connected.close()
            raise
        return connected

    connection = type("CheckedConnection", (pool.ConnectionCls,), {"_new_conn": _new_conn})
    return type("CheckedPool", (pool,), {"ConnectionCls": connection})
