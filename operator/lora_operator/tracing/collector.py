"""Where spans are sent: to the collector that a flag or OpenTelemetry's variables name, if any does."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from urllib.parse import urlsplit

from lora_operator.settings.options import SettingsError
from lora_operator.tracing.spans import OFF, Tracing

log = logging.getLogger(__name__)

_STANDARD = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")


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
        from lora_operator.tracing.otel import OtelTracing
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
