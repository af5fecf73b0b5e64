"""Tracing with OpenTelemetry: needs the extra `otel`, and is imported only where somebody wants traces."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping

from opentelemetry import context, trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from lora_operator import __version__
from lora_operator.tracing.spans import Parent, Value

CLOSE_SECONDS = 3.0
SEND_SECONDS = 5.0
MOST_ROUNDS = 16  # that something may still be begun under
_STANDARD_NAMES = {"url": "url.full"}


class OtelTracing:
    """See `Tracing`. The provider is this object's own: nothing global is changed."""

    def __init__(self, processor: SpanProcessor, service: str, instance: str = "") -> None:
        given = Resource({"service.name": service, "service.version": __version__} | (
            {"service.instance.id": instance} if instance else {}
        ))  # fmt: skip
        resource = Resource.create().merge(given).merge(OTELResourceDetector().detect())
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(processor)
        self._tracer = self._provider.get_tracer("lora_operator", __version__)
        self._propagator = TraceContextTextMapPropagator()
        self._rounds: OrderedDict[trace.Span, tuple[int, int, int]] = OrderedDict()  # began, planned, ended

    @classmethod
    def over_http(cls, url: str | None, service: str, instance: str = "") -> OtelTracing:
        """Send to `url` in batches from a thread; None: where the standard variables say."""
        exporter = OTLPSpanExporter(endpoint=url, timeout=SEND_SECONDS)
        return cls(BatchSpanProcessor(exporter), service, instance)

    @contextlib.contextmanager
    def span(self, name: str, *, under: Parent = None, **attributes: Value | None) -> Iterator[object]:
        parent = trace.set_span_in_context(under) if isinstance(under, trace.Span) else None
        self._send_round(under if isinstance(under, trace.Span) else trace.get_current_span())
        with self._tracer.start_as_current_span(
            name, parent, attributes=_named(attributes), record_exception=False, set_status_on_exception=False
        ) as span:
            try:
                yield span
            except BaseException as error:
                # the text of an error may hold anything: its reason or its type says enough
                self.failed(str(getattr(error, "reason", "") or type(error).__name__))
                raise

    @contextlib.contextmanager
    def round(self, plan_seconds: float, **attributes: Value | None) -> Iterator[object]:
        planned = time.time_ns()
        began = planned - int(plan_seconds * 1e9)
        span = self._tracer.start_span("reconcile", attributes=_named(attributes), start_time=began)
        with trace.use_span(span, record_exception=False, set_status_on_exception=False):
            yield span
        # a span that is never ended is never sent
        self._rounds[span] = began, planned, time.time_ns()
        while len(self._rounds) > MOST_ROUNDS:
            self._rounds.popitem(last=False)

    def _send_round(self, span: trace.Span) -> None:
        """Something is begun under it: if it is a round, it is of interest now."""
        times = self._rounds.pop(span, None)
        if times is not None:
            began, planned, ended = times
            self._tracer.start_span("plan", trace.set_span_in_context(span), start_time=began).end(planned)
            span.end(ended)

    def failed(self, reason: str) -> None:
        span = trace.get_current_span()
        span.set_attribute("error.type", reason[:64])
        span.set_status(trace.StatusCode.ERROR)

    def here(self) -> Parent:
        span = trace.get_current_span()
        return span if span.get_span_context().is_valid else None

    def headers(self) -> Mapping[str, str]:
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier)
        return carrier

    @contextlib.contextmanager
    def continued(self, headers: Mapping[str, str]) -> Iterator[object]:
        token = context.attach(self._propagator.extract({name.lower(): value for name, value in headers.items()}))
        try:
            yield None
        finally:
            context.detach(token)

    def close(self) -> None:
        # a collector that does not answer must not keep the process from ending
        closing = threading.Thread(target=self._provider.shutdown, name="close traces", daemon=True)
        closing.start()
        closing.join(CLOSE_SECONDS)


def _named(attributes: Mapping[str, Value | None]) -> dict[str, Value]:
    return {_STANDARD_NAMES.get(name, f"lora.{name}"): value for name, value in attributes.items() if value is not None}
