"""What clients send that is no HTTP, or not what it says: a refusal in the server's own form, and no traceback."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import logging
import re
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from lora_operator.process.listening import open_port
from lora_operator.telemetry.server import serve_health
from tests.agent.running import TOKEN, an_agent
from tests.router.fleet import a_fleet
from tests.router.serving import served

BODY = b'{"adapter": "sql"}'
AUTHORIZED = f"Authorization: Bearer {TOKEN}"
Serving = Callable[[Path], AbstractAsyncContextManager[int]]


@asynccontextmanager
async def router(_: Path) -> AsyncIterator[int]:
    async with served(a_fleet()) as it:
        yield int(it.url.rpartition(":")[2])


@asynccontextmanager
async def agent(root: Path) -> AsyncIterator[int]:
    async with an_agent(root) as it:
        yield it.port


@asynccontextmanager
async def health(_: Path) -> AsyncIterator[int]:
    runner = await serve_health(
        "127.0.0.1", 0, plan_age=lambda: 1.0, unready=lambda: "", standing_by=lambda: False, max_age=60.0
    )
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


# where a body is read, and how it is asked for
SERVERS: dict[str, tuple[Serving, str]] = {
    "router": (router, "POST /v1/pick"),
    "agent": (agent, "PUT /v1/loaded"),
    "health": (health, "GET /healthz"),
}


def a_request(line: str, *headers: str, body: bytes = b"", more: bool = False) -> bytes:
    """`more`: another follows on the connection."""
    length = (f"Content-Length: {len(body)}",) if body else ()
    end = () if more else ("Connection: close",)
    return "\r\n".join([f"{line} HTTP/1.1", "Host: x", AUTHORIZED, *length, *end, *headers, "", ""]).encode() + body


def nonsense(line: str) -> dict[str, bytes]:
    chunked, packed = "Transfer-Encoding: chunked", gzip.compress(BODY)
    path = line.partition(" ")[2]
    return {
        "a body that is no gzip": a_request(line, "Content-Encoding: gzip", body=BODY),
        "a body that is no deflate": a_request(line, "Content-Encoding: deflate", body=BODY),
        "an encoding that is not known here": a_request(line, "Content-Encoding: br", body=BODY),
        "gzip with a hole": a_request(line, "Content-Encoding: gzip", body=packed[:12] + packed[18:]),
        "a long URL": a_request(f"GET /{'a' * 9000}"),
        "a long header": a_request(line, f"X-Long: {'a' * 9000}"),
        "many headers": a_request(line, *(f"X-{number}: a" for number in range(200))),
        "an unknown method": a_request(f"BREW {path}"),
        "an unknown method after a request": a_request("GET /healthz", more=True) + a_request(f"BREW {path}"),
        "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 40,
        "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "another HTTP": f"GET {path} HTTP/9.9\r\nHost: x\r\n\r\n".encode(),
        "a header's name with a space": a_request(line, "Bad Name: a"),
        "a secret with a NUL": a_request(line, "Authorization: Bearer s3cret\0"),
        "a length that is none": a_request(line, "Content-Length: ten"),
        "two lengths": a_request(line, "Content-Length: 3", chunked),
        "a chunk that is none": a_request(line, chunked) + b"zz\r\nabc\r\n",
        "a later chunk that is none": a_request(line, chunked) + b"3\r\nabc\r\nqq\r\n",
        "bytes in the path": b"GET /v1/\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",
        "a URL that is none": a_request("GET http://[::1"),
        "an expectation": a_request(line, "Expect: wonders", body=BODY),
    }


async def told(port: int, data: bytes) -> bytes:
    """Everything that is answered until the server hangs up."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    try:
        async with asyncio.timeout(20):
            return await reader.read()
    finally:
        writer.close()


@pytest.mark.parametrize("server", sorted(SERVERS))
async def test_nonsense_is_refused_in_the_form_of_the_server_without_a_traceback(
    server: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="lora_operator")
    serving, line = SERVERS[server]
    async with serving(tmp_path) as port:
        for what, data in nonsense(line).items():
            caplog.clear()
            answer = await told(port, data)
            body = answer.rpartition(b"\r\n\r\n")[2]
            status = int(re.findall(rb"HTTP/1\.\d (\d{3}) ", answer)[-1])
            assert 400 <= status < 500 or server == "health", (what, answer)
            if server != "health":
                assert json.loads(body).keys() & {"type", "reason"}, (what, answer)
            assert [record.exc_info for record in caplog.records if record.exc_info] == [], what
            assert "s3cret" not in answer.decode(errors="replace") + caplog.text
            ours = [record for record in caplog.records if record.name == "lora_operator.process.listening"]
            assert len(ours) <= 1 and {record.levelno for record in ours} <= {logging.DEBUG}, what
        assert b" 200 " in await told(port, a_request("GET /healthz"))


@pytest.mark.parametrize("server", sorted(SERVERS))
async def test_clients_that_go_in_the_middle_are_no_errors(
    server: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    serving, line = SERVERS[server]
    whole = a_request(line, "Transfer-Encoding: chunked") + b"ff\r\nabc"
    async with serving(tmp_path) as port:
        for length in (1, len(whole) // 2, len(whole) - 8, len(whole)):
            for abruptly in (True, False):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(whole[:length])
                if abruptly:  # with a reset
                    sock = writer.get_extra_info("socket")
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    writer.close()
                else:
                    writer.write_eof()
                    await reader.read()
                    writer.close()
        assert b" 200 " in await told(port, a_request("GET /healthz"))
    assert [record.getMessage() for record in caplog.records if record.levelno > logging.INFO] == []


@pytest.mark.parametrize(("host", "reached"), [("", {4, 6}), ("127.0.0.1", {4}), ("::1", {6})])
def test_without_a_host_pods_are_reached_by_addresses_of_either_family(host: str, reached: set[int]) -> None:
    if not socket.has_dualstack_ipv6() and 6 in reached:
        pytest.skip("this machine has no IPv6")
    opened = open_port(host, 0)
    opened.listen()
    port, found = opened.getsockname()[1], set()
    for family, address in ((4, "127.0.0.1"), (6, "::1")):
        with contextlib.suppress(ConnectionRefusedError), socket.create_connection((address, port), 30):
            found.add(family)
    opened.close()
    assert found == reached
