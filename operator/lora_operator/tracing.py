"""Spans around what takes time: reconcile -> plan -> fetch -> load. Off unless somebody names a collector.

Where tracing is off, a span is one shared object that does nothing, and no library for it is imported. The names of
adapters, pods and versions are in spans; secrets, and queries of URLs, which may hold some, are not.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Protocol
from urllib.parse import urlsplit

from lora_operator.options import SettingsError
from lora_scheduler import Plan

log = logging.getLogger(__name__)

URL_CHARACTERS = 500
ENDPOINT_HELP = (
    "base URL of a collector that takes OpenTelemetry's OTLP over HTTP, for example http://collector:4318; needs the "
    "extra otel (default: OTEL_EXPORTER_OTLP_ENDPOINT if that is set, else nothing is traced)"
)
Value = str | int | float | bool
Parent = object | None  # what `here` gave
_STANDARD = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")


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


def tracing_to(flag: str, service: str, environment: Mapping[str, str] | None = None) -> Tracing:
    """Tracing as --otlp-endpoint or OpenTelemetry's own variables say; OFF where neither says anything.

    Args:
        flag: base URL of a collector that takes OTLP over HTTP, for example http://collector:4318.
        service: name under which the spans are shown, unless OTEL_SERVICE_NAME says another.

    Raises:
        SettingsError: the flag is no URL, or the libraries are not installed.
    """
    environment = os.environ if environment is None else environment
    if not flag and not any(environment.get(name) for name in _STANDARD):
        return OFF
    if environment.get("OTEL_TRACES_EXPORTER", "otlp") != "otlp" or environment.get("OTEL_SDK_DISABLED") == "true":
        return OFF
    if flag and (urlsplit(flag).scheme not in ("http", "https") or not urlsplit(flag).netloc):
        raise SettingsError(f"--otlp-endpoint: {flag!r} is no URL of a collector such as http://collector:4318")
    try:
        from lora_operator.otel import OtelTracing
    except ImportError as error:
        text = f"traces need the extra otel, which is not installed ({error}): pip install 'lora-operator[otel]'"
        if flag:
            raise SettingsError(f"--otlp-endpoint: {text}") from error
        # the variable may be meant for other programs, and set for all of them
        log.warning("nothing is traced though OTEL_EXPORTER_OTLP_ENDPOINT is set: %s", text)
        return OFF
    return OtelTracing.over_http(_traces_url(flag), service, environment.get("POD_NAME", ""))


def _traces_url(flag: str) -> str | None:
    """Where to post spans; None lets the exporter follow its variables."""
    if not flag or urlsplit(flag).path.rstrip("/").endswith("/v1/traces"):
        return flag or None
    return flag.rstrip("/") + "/v1/traces"


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
