"""The picker's server: what it says of its health, how it ends, what it shows over TLS, what it cannot start with."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import struct
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from grpclib.client import Channel
from grpclib.health.v1.health_grpc import HealthStub
from grpclib.health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ConnectionTerminated, StreamEnded, StreamReset

from lora_operator.cli.main import parser
from lora_operator.picking import tls
from lora_operator.picking.server import PROCESSOR, start_picker
from lora_operator.router.settings import RouterSettings, from_arguments
from lora_operator.settings.options import SettingsError
from lora_operator.telemetry.server import ServeError
from tests.picking.gateway import Gateway, picking
from tests.router.fleet import a_fleet
from tests.router.recording import an_asking
from tests.router.serving import served
from tests.router.test_on_demand import until_waiting

SERVING, NOT_SERVING = HealthCheckResponse.SERVING, HealthCheckResponse.NOT_SERVING


async def health(channel: Channel, service: str) -> int:
    return int((await HealthStub(channel).Check(HealthCheckRequest(service=service))).status)


async def test_a_picker_that_ends_says_so_first_and_answers_on_and_then_lets_go_who_waits() -> None:
    fleet = a_fleet()
    fleet.adapter("cold", names=("poet",), on_demand=True)
    fleet.refresh()
    async with an_asking() as (_, asking, _), picking(fleet, asking, drain_seconds=60.0) as it:
        for name in ("", "readiness", "liveness", PROCESSOR):
            assert await health(it.gateway.channel, name) == SERVING
        asked = asyncio.create_task(it.gateway.ask({"model": "poet"}))
        await until_waiting(it.served, 1)
        async with HealthStub(it.gateway.channel).Watch.open() as watched:
            await watched.send_message(HealthCheckRequest(service=PROCESSOR), end=True)
            said = await watched.recv_message()
            assert said is not None and said.status == SERVING
            stopping = asyncio.create_task(it.server.stop())
            said = await watched.recv_message()
            assert said is not None and said.status == NOT_SERVING
            await watched.cancel()
        assert await health(it.gateway.channel, "liveness") == SERVING
        assert (await it.gateway.ask({"model": "sql"})).endpoint
        stopping.cancel()
        it.server._drain_seconds = 0.0
        await it.server.stop()
        await asyncio.gather(asked, return_exceptions=True)  # this client listens no more once it is told to go
        assert (await it.counted())["loading"] == 1
        for gateway in (Gateway(it.server.port), it.gateway):
            with pytest.raises(OSError):
                await gateway.ask({"model": "sql"})


async def test_a_burst_on_a_new_connection_is_answered_whole() -> None:
    wire = H2Connection()
    wire.initiate_connection()
    path = (":path", f"/{PROCESSOR}/Process")
    fields = [(":method", "POST"), (":scheme", "http"), (":authority", "x"), path, ("te", "trailers")]
    for _ in range(300):
        fields_of_one = [*fields, ("content-type", "application/grpc")]
        wire.send_headers(wire.get_next_available_stream_id(), fields_of_one, end_stream=True)
    ended = 0
    async with picking(a_fleet()) as it, asyncio.timeout(60):
        reader, writer = await asyncio.open_connection("127.0.0.1", it.server.port)
        writer.write(wire.data_to_send())  # all before the picker has said anything
        while ended < 300:
            said = await reader.read(1 << 16)
            assert said, "the picker has hung up"
            for event in wire.receive_data(said):
                assert not isinstance(event, ConnectionTerminated | StreamReset)
                ended += isinstance(event, StreamEnded)
            writer.write(wire.data_to_send())
        writer.close()


def frame(kind: int, stream: int, body: bytes) -> bytes:
    """As on the wire, without flags."""
    return struct.pack(">I", len(body))[1:] + bytes([kind, 0]) + struct.pack(">I", stream) + body


def opened(wire: H2Connection, **changes: str | None) -> int:
    """The number of a stream that asks for the picker; fields that are None are left out."""
    fields: dict[str, str | None] = {
        ":method": "POST", ":scheme": "http", ":authority": "x", ":path": f"/{PROCESSOR}/Process", "te": "trailers",
        "content-type": "application/grpc",
    }  # fmt: skip
    stream = wire.get_next_available_stream_id()
    given = (fields | changes).items()
    wire.send_headers(stream, [(name, value) for name, value in given if value is not None], end_stream=True)
    return stream


async def test_frames_that_are_not_known_are_passed_over_and_the_connection_goes_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    wire = H2Connection()
    wire.initiate_connection()
    async with picking(a_fleet()) as it, asyncio.timeout(60):
        reader, writer = await asyncio.open_connection("127.0.0.1", it.server.port)
        writer.write(wire.data_to_send() + frame(0xFA, 0, b"grease") + frame(0x0A, 0, b"\0\1xh2=:1"))
        stream = opened(wire)
        writer.write(wire.data_to_send() + frame(0xFA, stream, b"grease"))
        answered = False
        while not answered:
            said = await reader.read(1 << 16)
            assert said, "the picker has hung up"
            answered = any(isinstance(event, StreamEnded) for event in wire.receive_data(said))
        writer.close()
    assert [record.getMessage() for record in caplog.records if record.levelno > logging.INFO] == []


@pytest.mark.parametrize(
    "changes", [{":path": None}, {"a-bin": "\xff"}, {"grpc-timeout": "0n"}, {"grpc-timeout": "soon"}, {"te": None}]
)
async def test_requests_that_are_none_of_grpc_are_no_errors_of_ours(
    changes: dict[str, str | None], caplog: pytest.LogCaptureFixture
) -> None:
    wire = H2Connection(H2Configuration(validate_outbound_headers=False))
    wire.initiate_connection()
    async with picking(a_fleet()) as it, asyncio.timeout(60):
        reader, writer = await asyncio.open_connection("127.0.0.1", it.server.port)
        opened(wire, **changes)
        writer.write(wire.data_to_send())
        ended = False
        while not ended and (said := await reader.read(1 << 16)):
            ended = any(isinstance(event, StreamEnded | StreamReset) for event in wire.receive_data(said))
        writer.close()
        assert (await it.gateway.ask({"model": "chat"})).endpoint
    assert [record.getMessage() for record in caplog.records if record.levelno > logging.INFO] == []


def shown(context: ssl.SSLContext, port: int) -> x509.Certificate:
    """The certificate that a client is shown."""
    with socket.create_connection(("127.0.0.1", port)) as plain, context.wrap_socket(plain) as secured:
        found = secured.getpeercert(binary_form=True)
        assert found is not None and secured.selected_alpn_protocol() == "h2"
        return x509.load_der_x509_certificate(found)


def unchecking() -> ssl.SSLContext:
    """As gateways do: encrypted, and nobody asks who it is."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    return context


def write_pair(folder: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> tuple[str, str]:
    """A certificate for that name, in files that may be there already."""
    monkeypatch.setattr(tls, "COMMON_NAME", name)
    cert, key = tls.make_pair()
    (folder / "tls.crt").write_bytes(cert)
    (folder / "tls.key").write_bytes(key)
    return str(folder / "tls.crt"), str(folder / "tls.key")


def name_of(certificate: x509.Certificate) -> str:
    return str(certificate.subject.rfc4514_string())


async def test_gateways_that_encrypt_are_shown_a_certificate_that_is_made_at_the_start() -> None:
    async with picking(a_fleet(), self_signed=True) as it:
        secured = Gateway(it.server.port, unchecking())
        assert (await secured.ask({"model": "chat"})).model == "chat--1234"
        secured.channel.close()


async def test_a_certificate_that_is_renewed_is_shown_from_then_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cert, key = write_pair(tmp_path, monkeypatch, "first")
    async with picking(a_fleet(), tls_cert=cert, tls_key=key) as it:
        assert name_of(await asyncio.to_thread(shown, unchecking(), it.server.port)) == "CN=first"
        write_pair(tmp_path, monkeypatch, "second")
        assert name_of(await asyncio.to_thread(shown, unchecking(), it.server.port)) == "CN=second"
        (tmp_path / "tls.key").write_text("half writ")
        assert name_of(await asyncio.to_thread(shown, unchecking(), it.server.port)) == "CN=second"


async def test_a_port_that_is_taken_is_named() -> None:
    fleet = a_fleet()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ServeError, match=f"cannot listen on 127.0.0.1:{port}.*--picker-port"):
            async with served(fleet) as api:
                settings = replace(RouterSettings(), host="127.0.0.1", picker_port=port)
                await start_picker(settings, api.api, fleet.table, fleet.cluster)


async def test_a_certificate_that_cannot_be_used_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cert, key = write_pair(tmp_path, monkeypatch, "x")
    (tmp_path / "other").mkdir()
    _, other = write_pair(tmp_path / "other", monkeypatch, "y")
    for wrong in ({"tls_cert": cert, "tls_key": other}, {"tls_cert": f"{cert}x", "tls_key": key}):
        with pytest.raises(ServeError, match="no pair of PEM files"):
            async with picking(a_fleet(), **wrong):
                pass


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        ("--picker-port 8082", "is the port of the router API"),
        ("--picker-port 9002 --picker-tls-cert x", "belong together"),
        ("--picker-port 9002 --picker-tls-cert x --picker-tls-key y --picker-self-signed", "give one of the two"),
        ("--picker-port 9002 --picker-namespace a --namespace b", "a is not watched"),
        ("--picker-port 9002 --picker-wait-seconds 1000", "--picker-wait-seconds: 1000"),
    ],
)
def test_settings_that_make_no_sense_are_refused(flags: str, says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        from_arguments(parser("router").parse_args(["router", *flags.split()]), {})


def test_a_picker_without_its_libraries_is_refused_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "grpclib.server", None)
    with pytest.raises(SettingsError, match=r"pip install 'lora-operator\[envoy\]'"):
        from_arguments(parser("router").parse_args(["router", "--picker-port", "9002"]), {})
