"""A server that answers /metrics like a busy engine, for as many pods as one likes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

HISTOGRAMS, BUCKETS = 40, 25
SERIES_OF_ADAPTERS = 100  # a busy engine's old ones never go

LABELS = 'engine="0",model_name="llama"'


def page() -> bytes:
    """As long as vLLM's own page, with the few lines of interest among a thousand others."""
    lines = []
    for number in range(HISTOGRAMS):
        lines += [f"# HELP vllm:h{number}_seconds Something.", f"# TYPE vllm:h{number}_seconds histogram"]
        lines += [
            f'vllm:h{number}_seconds_bucket{{{LABELS},le="{0.1 * step:.1f}"}} {step}.0' for step in range(BUCKETS)
        ]
    lines += [
        f"vllm:num_requests_running{{{LABELS}}} 7.0",
        f"vllm:num_requests_waiting{{{LABELS}}} 2.0",
        f"vllm:kv_cache_usage_perc{{{LABELS}}} 0.41",
        f'vllm:request_success_total{{{LABELS},finished_reason="stop"}} 12345.0',
    ]
    for number in range(SERIES_OF_ADAPTERS):
        busy = f"a{number},b{number % 7}"
        lines.append(
            f'vllm:lora_requests_info{{max_lora="8",running_lora_adapters="{busy}",waiting_lora_adapters="{busy}"}} '
            f"1.7{number:03}e+09"
        )
    return "\n".join([*lines, ""]).encode()


@contextmanager
def engines() -> Iterator[int]:
    """On a free port of loopback, which it gives."""
    body = page()
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n" % len(body) + body

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.wfile.write(answer)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)
