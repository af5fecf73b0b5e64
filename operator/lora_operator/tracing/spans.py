"""Spans around what takes time: reconcile -> plan -> fetch -> load. Off unless somebody names a collector.

Where tracing is off, a span is one shared object that does nothing, and no library for it is imported. The names of
adapters, pods and versions are in spans; secrets, and queries of URLs, which may hold some, are not.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Protocol
from urllib.parse import urlsplit

from lora_scheduler import Plan

URL_CHARACTERS = 500
Value = str | int | float | bool
Parent = object | None  # what `here` gave


class Tracing(Protocol):
    """What the code calls. Attributes: strings and numbers, `lora.` is put before their names."""

    def span(self, name: str, *, under: Parent = None, **attributes: Value | None) -> AbstractContextManager[object]:
        """Time what is done inside; a part of `under`, or else of the span that this is in, or else a trace of its own.
        An exception that leaves it marks it as failed."""
        ...  # pragma: no cover

    def round(self, plan_seconds: float, **attributes: Value | None) -> AbstractContextManager[object]:
        """A planning round, whose plan is made, and took so long: "reconcile" and in it "plan". Nothing is sent of
        rounds that nothing is begun under, now or later: there are many of them."""
        ...  # pragma: no cover

    def failed(self, reason: str) -> None:
        """The span that this is in did not go well."""
        ...  # pragma: no cover

    def here(self) -> Parent:
        """The span that this is in, for what is begun later."""
        ...  # pragma: no cover

    def headers(self) -> Mapping[str, str]:
        """What to send with a request, so that the other side goes on with this trace."""
        ...  # pragma: no cover

    def continued(self, headers: Mapping[str, str]) -> AbstractContextManager[object]:
        """Inside, spans are parts of what the sender of a request with these headers was doing."""
        ...  # pragma: no cover

    def close(self) -> None:
        """Send what was not sent yet, for some seconds at most. Blocking."""
        ...  # pragma: no cover


class _Off:
    """Nothing is traced."""

    _NOTHING: AbstractContextManager[object] = contextlib.nullcontext()

    def span(self, name: str, *, under: Parent = None, **attributes: Value | None) -> AbstractContextManager[object]:
        return self._NOTHING

    def round(self, plan_seconds: float, **attributes: Value | None) -> AbstractContextManager[object]:
        return self._NOTHING

    def failed(self, reason: str) -> None:
        """Nothing."""

    def here(self) -> Parent:
        return None

    def headers(self) -> Mapping[str, str]:
        return {}

    def continued(self, headers: Mapping[str, str]) -> AbstractContextManager[object]:
        return self._NOTHING

    def close(self) -> None:
        """Nothing."""


OFF: Tracing = _Off()


def without_secrets(url: str) -> str:
    """The URL without user, query and fragment, and not too long."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return ""
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}"[:URL_CHARACTERS]


def reconciling(tracing: Tracing, plan: Plan, seconds: float) -> AbstractContextManager[object]:
    """Around the execution of a plan that took so long to make: what it begins belongs to one trace."""
    if tracing is OFF or not plan.actions:
        return contextlib.nullcontext()
    missing = sum(plan.missing.values())
    return tracing.round(seconds, actions=len(plan.actions), waiting=len(plan.waiting), missing=missing)
