"""TLS: certificates that are trusted, and those that are not."""

from __future__ import annotations

import argparse
import shutil
import ssl
import subprocess
import tempfile
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import certifi
import pytest

from lora_operator.fetch.errors import FetchError
from lora_operator.fetch.fetcher import Fetcher
from lora_operator.fetch.hosts import HostRules
from lora_operator.fetch.manifest import Link
from lora_operator.process.authorities import bundle_for, check_ca_file
from lora_operator.settings.operator import add_arguments, from_arguments
from lora_operator.settings.options import SettingsError
from lora_operator.sources.s3_store import Surroundings
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


async def test_a_certificate_of_an_authority_that_the_settings_name_is_taken(tls_case: Case, certificate: Path) -> None:
    await tls_case.fetch(an_order(tls_case.files, tls_link(tls_case)), rules=HostRules(ca_file=str(certificate)))
    assert tls_case.whole


async def test_a_file_of_authorities_that_changes_is_read_again(tls_case: Case, certificate: Path) -> None:
    file, exchanged = (certificate.with_name(name) for name in ("ca.pem", "new.pem"))
    shutil.copyfile(certifi.where(), file)
    shutil.copyfile(certificate, exchanged)
    order, rules = an_order(tls_case.files, tls_link(tls_case)), HostRules(ca_file=str(file))
    async with Fetcher(limits=tls_case.limits, rules=rules) as fetcher:
        with pytest.raises(FetchError, match="--ca-file"):
            await fetcher.fetch(order, tls_case.into)
        exchanged.replace(file)
        await fetcher.fetch(order, tls_case.into)
    assert tls_case.whole


def test_sdks_believe_theirs_and_ours(certificate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    bundle = bundle_for(str(certificate))
    assert bundle is not None
    client = Surroundings(str(certificate)).client(None, aws_access_key_id="a", aws_secret_access_key="b")
    assert client._endpoint.http_session._verify == bundle
    known = Path(bundle).read_text()
    assert certificate.read_text().strip() in known and Path(certifi.where()).read_text().strip() in known
    assert bundle_for("") is None


def test_what_sdks_believe_lies_in_one_file_however_often_a_process_starts(
    certificate: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (temporary := tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    copy = certificate.with_name("copy.pem")
    shutil.copyfile(certificate, copy)
    bundles = [bundle_for(str(certificate)), bundle_for(str(copy))]
    assert [str(path) for path in temporary.iterdir()] == bundles[:1] == bundles[1:]


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_a_file_without_authorities_is_refused_at_the_start(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_text(content)
    with pytest.raises(ValueError, match=r"ca\.pem: .*name a PEM file"):
        check_ca_file(str(file))
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    with pytest.raises(SettingsError, match=r"--ca-file: .*ca\.pem"):
        from_arguments(parser.parse_args([f"--ca-file={file}"]), {})
