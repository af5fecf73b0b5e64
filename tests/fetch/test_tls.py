"""TLS: certificates that are trusted, and those that are not."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from lora_operator.fetch.manifest import Link
from tests.fetch.ordered import WEIGHTS_URL, Case, an_order


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """Key and certificate of localhost, signed by itself, in one file."""
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl here to make a certificate")
    path = tmp_path / "both.pem"
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    subprocess.run([*command, "-keyout", key, "-out", cert], check=True, capture_output=True)
    path.write_bytes(key.read_bytes() + cert.read_bytes())
    return path


@pytest.fixture
async def tls_case(case: Case, certificate: Path) -> AsyncIterator[Case]:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    async with case.store.also_with(tls):
        yield case


def tls_link(case: Case) -> Link:
    return replace(case.link, url=f"https://localhost:{case.store.tls_port}{WEIGHTS_URL}")


async def test_a_certificate_that_nobody_knows_is_refused(tls_case: Case) -> None:
    error = await tls_case.failure(an_order(tls_case.files, tls_link(tls_case)))
    assert (error.reason, error.retryable) == ("TlsFailed", False)
    assert tls_case.store.seen == []


async def test_a_certificate_of_ones_own_authority_is_taken(tls_case: Case, certificate: Path) -> None:
    await tls_case.fetch(
        an_order(tls_case.files, tls_link(tls_case)), tls=ssl.create_default_context(cafile=str(certificate))
    )
    assert tls_case.whole


async def test_a_redirect_from_https_to_http_is_refused(tls_case: Case, certificate: Path) -> None:
    from e2e.stores.proxy import Fault

    tls_case.store.always = Fault(redirect=tls_case.link.url)
    order = an_order(tls_case.files, tls_link(tls_case))
    error = await tls_case.failure(order, tls=ssl.create_default_context(cafile=str(certificate)))
    assert (error.reason, error.retryable) == ("ForbiddenRedirect", False)
