"""Engines that speak TLS, and those that only look so."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path

import pytest
from aiohttp import web

from lora_operator.vllm.client import Endpoint, EngineClient, Timeouts, new_session
from lora_operator.vllm.engine_tls import engine_tls
from lora_operator.vllm.errors import EngineUnreachable

PATIENT = Timeouts(connect=30, probe=30)
Listening = Callable[[bool], int]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Key and certificate of a Service, signed by itself, in one file."""
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl here to make a certificate")
    made = tmp_path_factory.mktemp("tls") / "both.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=vllm.ml.svc",
         "-addext", "subjectAltName=DNS:vllm.ml.svc", "-keyout", str(made), "-out", str(made.with_suffix(".crt"))],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    made.write_text(made.read_text() + made.with_suffix(".crt").read_text())
    return made


async def models(request: web.Request) -> web.Response:
    return web.json_response({"data": [{"id": "tiny", "root": "/m", "parent": None}]})


@pytest.fixture
async def listening(certificate: Path) -> AsyncIterator[Listening]:
    """The ports of two engines, one with TLS and one without."""
    app = web.Application()
    app.router.add_get("/v1/models", models)
    runner = web.AppRunner(app)
    await runner.setup()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate)
    for secure in (True, False):
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=server if secure else None).start()
    ports = [address[1] for address in runner.addresses]
    yield lambda secure: ports[0 if secure else 1]
    await runner.cleanup()


async def test_an_engine_is_asked_over_tls_whatever_name_its_certificate_has(
    listening: Listening, certificate: Path
) -> None:
    endpoint = Endpoint("127.0.0.1", listening(True), secure=True)
    async with new_session() as session:
        for how in (partial(engine_tls, str(certificate)), partial(engine_tls, verify=False)):
            (model,) = await EngineClient(session, timeouts=PATIENT, tls=how).models(endpoint)
            assert model.name == "tiny"
    async with new_session() as session:
        with pytest.raises(EngineUnreachable, match="--ca-file") as caught:
            await EngineClient(session, timeouts=PATIENT, tls=engine_tls).models(endpoint)
        assert not caught.value.refused


async def test_what_stands_in_the_way_is_said_with_what_to_do(listening: Listening) -> None:
    async with new_session() as session:
        client = EngineClient(session, timeouts=PATIENT, tls=lambda: engine_tls(verify=False))
        with pytest.raises(EngineUnreachable, match="scheme: https"):
            await client.models(Endpoint("127.0.0.1", listening(True)))
        with pytest.raises(EngineUnreachable, match=r"scheme: http$"):
            await client.models(Endpoint("127.0.0.1", listening(False), secure=True))
