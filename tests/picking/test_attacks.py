"""What clients may try at the chart's Envoy: to say who they are or where a request goes, or to keep it busy."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import ConnectionTerminated, DataReceived, ResponseReceived, StreamEnded, StreamReset

from e2e.cluster.authority import Authority
from e2e.envoy import EnvoyUnavailable, find_envoy
from tests.picking.test_behind_envoy import ALICE, BOB, ISSUER, Issuer, a_gateway, ask, bearer

TARGET = "x-gateway-destination-endpoint"
BODY = b'{"model": "mine"}'
Pairs = Sequence[tuple[str, str]]


@pytest.fixture(scope="module", autouse=True)
def _envoy_is_there() -> None:
    try:
        find_envoy()
    except EnvoyUnavailable as error:
        pytest.skip(f"there is no Envoy: {error}")


@asynccontextmanager
async def a_server(handler: Any, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """On loopback; its port."""
    runner = web.AppRunner(app := web.Application())
    app.router.add_route("*", "/{tail:.*}", handler)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def over_http1(port: int, head: bytes, rest: bytes = BODY) -> bytes:
    """Whatever is answered until Envoy hangs up, or has nothing more to say."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.timeout(60):
            writer.write(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + head + b"\r\n" + rest)
            return await reader.read()
    except ConnectionError:
        return b""
    finally:
        writer.close()


class Http2:
    """A client that checks nothing of what it sends."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self.wire = H2Connection(
            H2Configuration(validate_outbound_headers=False, normalize_outbound_headers=False, header_encoding="utf-8")
        )
        self.wire.initiate_connection()

    async def flush(self) -> None:
        self._writer.write(self.wire.data_to_send())
        await self._writer.drain()

    async def ask(self, headers: Pairs, body: bytes = BODY, trailers: Pairs = ()) -> tuple[str, bytes]:
        """The status, and the body; the status is empty where Envoy did not take the request."""
        number = self.wire.get_next_available_stream_id()
        self.wire.send_headers(number, headers)
        self.wire.send_data(number, body, end_stream=not trailers)
        if trailers:
            self.wire.send_headers(number, trailers, end_stream=True)
        await self.flush()
        status, answer = "", b""
        async with asyncio.timeout(60):
            while data := await self._reader.read(65_536):
                for event in self.wire.receive_data(data):
                    if isinstance(event, ConnectionTerminated):
                        return "", b""
                    if getattr(event, "stream_id", 0) != number:
                        continue
                    if isinstance(event, ResponseReceived):
                        status = dict(event.headers or ())[":status"]  # type: ignore[arg-type,index,assignment]
                    elif isinstance(event, DataReceived):
                        answer += event.data or b""
                    elif isinstance(event, StreamReset):
                        return "", b""
                    elif isinstance(event, StreamEnded):
                        return status, answer
                await self.flush()
        return "", b""


@asynccontextmanager
async def http2(port: int, context: ssl.SSLContext | None = None) -> AsyncIterator[Http2]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    try:
        yield Http2(reader, writer)
    finally:
        writer.close()


def request(key: str = ALICE, *more: tuple[str, str]) -> list[tuple[str, str]]:
    """The headers of a request over HTTP/2."""
    pseudo = [(":method", "POST"), (":scheme", "http"), (":authority", "x"), (":path", "/v1/completions")]
    return [*pseudo, ("content-type", "application/json"), ("authorization", f"Bearer {key}"), *more]


async def test_no_spelling_of_headers_says_who_asks_or_where_a_request_goes(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.mkdir()
    for owner, key in (("alice", ALICE), ("bob", BOB)):
        (keys / owner).write_text(key)
    reached: list[str] = []

    async def elsewhere(asked: web.Request) -> web.Response:
        reached.append(asked.path)
        return web.json_response({"model": "taken"})

    async with (
        a_server(elsewhere) as other,
        a_gateway(tmp_path, {"owners": {"keysSecret": "keys"}}, keys=str(keys)) as (url, session),
    ):
        port, where = int(url.rpartition(":")[2]), f"127.0.0.1:{other}"
        mine, theirs = b"Authorization: Bearer " + ALICE.encode(), b"Authorization: Bearer " + BOB.encode()
        length = b"Content-Length: 17\r\n"
        named = b": " + where.encode() + b"\r\n"
        plain = mine + b"\r\n" + length
        for head in (
            plain + TARGET.encode() + named,
            plain + TARGET.upper().encode() + named + TARGET.encode() + named,
            plain + TARGET.replace("-", "_").encode() + named,
            plain + TARGET.encode() + named + b"Connection: " + TARGET.encode() + b"\r\n",
            plain + b"Connection: " + TARGET.encode() + b", authorization\r\n",
            plain + TARGET.encode() + b" : " + where.encode() + b"\r\n",  # a space before the colon
            plain + b"X: y\r\n " + TARGET.encode() + named,  # a folded line
            plain + b"x-envoy-original-dst-host" + named + b"x-envoy-decorator-operation: x\r\n",
            plain + b"x-envoy-original-path: /metrics\r\nx-forwarded-host" + named + b"x-lora-owner: bob\r\n",
        ):
            answer = await over_http1(port, head)
            assert b"taken" not in answer and answer.split(b" ")[1:2] in ([b"200"], [b"400"], [b"401"], []), answer
        # the body is what its length says, in one way only
        smuggled = b"POST /v1/completions HTTP/1.1\r\nHost: y\r\n" + theirs + b"\r\n" + length + b"\r\n" + BODY
        for head in (
            plain + b"Content-Length: 0\r\n",
            plain + b"Transfer-Encoding: chunked\r\n",
            plain + b"Transfer-Encoding : chunked\r\n",
            mine + b"\r\nTransfer-Encoding: xchunked\r\n",
            mine + b"\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
            mine + b"\r\nContent-Length: +17\r\n",
        ):
            answer = await over_http1(port, head, b"0\r\n\r\n" + smuggled)
            assert answer.count(b"HTTP/1.1 ") <= 1 and b" 200 " not in answer, answer
        trailing = b"11\r\n" + BODY + b"\r\n0\r\n" + TARGET.encode() + named + theirs + b"\r\n\r\n"
        for trailers in (trailing, trailing.replace(b"Authorization", b"authorization")):
            answer = await over_http1(port, mine + b"\r\nTransfer-Encoding: chunked\r\n", trailers)
            assert b" 200 " in answer and b"taken" not in answer, answer
        # two keys at once are none
        assert (await ask(session, url, "theirs", [*bearer(ALICE).items(), *bearer(BOB).items()]))[0] == 401

        for headers in (
            request(ALICE, (TARGET, where)),
            request(ALICE, (TARGET.upper(), where)),
            request(ALICE, (TARGET, where), ("connection", TARGET)),
            request(ALICE, (f":{TARGET}", where)),
            request(ALICE, (":authority", where)),
            request(ALICE, (":path", "/metrics")),
            request(ALICE, ("transfer-encoding", "chunked")),
            request(ALICE, ("te", "chunked")),
            request(ALICE, ("content-length", "3")),
            request(ALICE, ("x", f"y\r\n{TARGET}: {where}")),
            [*request(ALICE), (":method", "GET")],
            [pair for pair in request(ALICE) if pair[0] != ":path"],
        ):
            async with http2(port) as client:
                status, body = await client.ask(headers)
                assert status in ("", "200", "400") and b"taken" not in body, (headers, status, body)
        async with http2(port) as client:
            status, body = await client.ask(request(), trailers=[(TARGET, where), ("authorization", f"Bearer {BOB}")])
            assert (status, b"trailers" in body) == ("400", True), body
        assert reached == [], "what is behind a name that a client chose was never asked"
        assert (await ask(session, url, headers=bearer(ALICE)))[0] == 200


async def test_clients_that_ask_and_take_it_back_leave_nothing_behind(tmp_path: Path) -> None:
    async with a_gateway(tmp_path, {}, body_bytes=1 << 20) as (url, session):
        port = int(url.rpartition(":")[2])

        async def storm() -> None:
            async with http2(port) as client:
                try:
                    for count in range(2_000):
                        number = client.wire.get_next_available_stream_id()
                        client.wire.send_headers(number, request())
                        if count % 2:
                            client.wire.send_data(number, b'{"model": ')
                        client.wire.reset_stream(number, ErrorCodes.CANCEL)
                        if count % 100 == 99:
                            await client.flush()
                except ConnectionError:
                    pass  # Envoy hangs up on such clients

        await asyncio.gather(*(storm() for _ in range(4)))
        assert (await ask(session, url))[0] == 200

        many = {f"x-{number}": "y" for number in range(200)}
        status, body, _ = await ask(session, url, headers=many)
        assert (status, body["error"]["code"]) == (431, 431)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\n\r\n")
        sent = asyncio.create_task(_send(writer, 100_000_000))
        async with asyncio.timeout(60):
            assert b" 413 " in await reader.readline(), "said before all of it has come"
        sent.cancel()
        writer.close()
        assert (await ask(session, url))[0] == 200


async def _send(writer: asyncio.StreamWriter, size: int) -> None:
    try:
        for _ in range(size // 100_000):
            writer.write(b"a" * 100_000)
            await writer.drain()
    except ConnectionError:
        pass


async def test_keys_of_an_issuer_are_fetched_by_https_and_clients_check_who_answers(tmp_path: Path) -> None:
    issuer, other = Issuer(), Issuer()
    authority = Authority(tmp_path / "authority")
    theirs = authority.issue("issuer", names=["localhost"])
    ours = authority.issue("gateway", addresses=[IPv4Address("127.0.0.1")])
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(theirs.certificate, theirs.key)
    fetched: list[str] = []

    async def keys(asked: web.Request) -> web.Response:
        fetched.append(asked.path)
        return web.Response(text=issuer.jwks, content_type="application/json")

    async with a_server(keys, serving) as port:
        jwt = {"issuer": ISSUER, "jwksUri": f"https://localhost:{port}/keys", "audiences": ["models"]}
        files = {
            "/etc/lora-ca/ca.crt": authority.certificate,
            "/etc/gateway-tls/tls.crt": ours.certificate,
            "/etc/gateway-tls/tls.key": ours.key,
            "/etc/gateway-tls": ours.key.parent,
        }
        mounted = {"files": files, "chart": {"ca": {"configMap": "authority"}}, "tls": True}
        values = {"owners": {"jwt": jwt}, "tlsSecret": "gateway"}
        async with a_gateway(tmp_path, values, mounted, owner_claim="sub") as (url, session):
            good = bearer(issuer.token(aud="models"))
            with pytest.raises(aiohttp.ClientConnectorCertificateError):
                await ask(session, url, headers=good)
            trusting = ssl.create_default_context(cafile=str(authority.certificate))
            status, body, headers = await ask(session, url, headers=good, ssl=trusting)
            assert (status, body["model"], headers["x-lora-model"]) == (200, "mine", "mine"), body
            assert (await ask(session, url, "theirs", good, ssl=trusting))[0] == 404
            for token in (other.token(aud="models"), issuer.token(aud="models", exp=1), issuer.token(aud="others")):
                status, body, _ = await ask(session, url, headers=bearer(token), ssl=trusting)
                assert status in (401, 403) and body["error"]["type"] == "Unauthorized"
            assert set(fetched) == {"/keys"}
            trusting.set_alpn_protocols(["h2"])
            async with http2(int(url.rpartition(":")[2]), trusting) as client:
                assert (await client.ask(request(issuer.token(aud="models"))))[0] == "200"
            with pytest.raises(aiohttp.ClientError):
                await ask(session, url.replace("https", "http"), headers=good)
