"""Lets the connections of SDKs that use urllib3 lead only to addresses that the rules allow.

A name that was checked may stand for another address a moment later: what counts is who was really connected to, and
that is looked at before a byte is sent.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
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


class Lines:
    """The connections of one store, to be cut when its time is over: a time-out of the SDK begins anew with each byte,
    and a server that sends one now and then would keep a thread for ever.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sockets: list[socket.socket] | None = []

    def check(self) -> None:
        """Raises OSError where all were cut already: the SDK would try again."""
        if self._sockets is None:
            raise ConnectionAbortedError("the time for this store is over")

    def add(self, connected: socket.socket) -> None:
        """Know this connection. Raises OSError where all were cut already."""
        with self._lock:
            self.check()
            assert self._sockets is not None
            self._sockets.append(connected.dup())  # the SDK wraps its own for TLS, and closes it when it likes

    def let_go(self, *, cut: bool) -> None:
        """Take no more. With `cut`, whoever waits for an answer is told at once that none will come."""
        with self._lock:
            sockets, self._sockets = self._sockets or [], None
        for each in sockets:
            if cut:
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
            each.close()


def checked_pools(pools: Mapping[str, Any], rules: HostRules, lines: Lines) -> dict[str, Any]:
    """urllib3's pool classes by scheme -> the same, whose connections raise FetchError for a forbidden address."""
    return {scheme: _checked(pool, rules, lines) for scheme, pool in pools.items()}


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


def _checked(pool: Any, rules: HostRules, lines: Lines) -> Any:
    def _new_conn(self: Any) -> socket.socket:
        lines.check()
        connected: socket.socket = pool.ConnectionCls._new_conn(self)
        try:
            address = as_address(str(connected.getpeername()[0]))
            if address is not None:
                rules.check_address(self.host, address)
            lines.add(connected)
        except BaseException:
            connected.close()
            raise
        return connected

    connection = type("CheckedConnection", (pool.ConnectionCls,), {"_new_conn": _new_conn})
    return type("CheckedPool", (pool,), {"ConnectionCls": connection})
