"""A collector of traces on loopback: takes OTLP over HTTP, and keeps what it was sent."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

PATH = "/v1/traces"


@dataclass(frozen=True)
class Span:
    """One span as it arrived. `parent` is empty for the first of a trace; `attributes` are shown as text."""

    service: str
    name: str
    trace: str
    id: str
    parent: str
    seconds: float
    failed: bool
    attributes: dict[str, str]


class Collector:
    """Serves while it is entered; `spans` in the order of their arrival, which is that of their ends."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.bodies: list[bytes] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.path == PATH:
                    collector.take(body)
                self.send_response(200 if self.path == PATH else 404)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                """Nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def take(self, body: bytes) -> None:
        self.bodies.append(body)
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            names = {one.key: one.value.string_value for one in resource.resource.attributes}
            for scope in resource.scope_spans:
                self.spans += [
                    Span(
                        names["service.name"],
                        span.name,
                        span.trace_id.hex(),
                        span.span_id.hex(),
                        span.parent_span_id.hex(),
                        (span.end_time_unix_nano - span.start_time_unix_nano) / 1e9,
                        span.status.code == span.status.STATUS_CODE_ERROR,
                        {one.key: _text(one.value) for one in span.attributes},
                    )
                    for span in scope.spans
                ]

    def above(self, span: Span) -> list[str]:
        """The names of the spans that this one is a part of, its own last."""
        by_id = {(one.trace, one.id): one for one in self.spans}
        names = [span.name]
        while (parent := by_id.get((span.trace, span.parent))) is not None:
            names.insert(0, parent.name)
            span = parent
        return names

    def paths(self) -> set[str]:
        """All of them, for example "reconcile / plan"."""
        return {" / ".join(self.above(span)) for span in self.spans}

    def __enter__(self) -> Collector:
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def _text(value: object) -> str:
    return str(getattr(value, str(value.WhichOneof("value"))))  # type: ignore[attr-defined]
