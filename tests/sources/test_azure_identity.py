"""The operator's own identity at a store that takes its tokens, as Azure does: Azurite with https and OAuth."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from azure.core.credentials import AccessToken
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from e2e.stores.azure import ACCOUNT, AzureServer, AzuriteUnavailable
from lora_operator.fetch.hosts import HostRules
from lora_operator.sources import SourceError
from lora_operator.sources.azure import AzureSource
from tests.sources.adapter_bytes import WEIGHTS, a_request, adapter

TENANT = "ab1f708d-50f6-404c-a006-d71b2ac7a606"


class Identity:
    """A credential like those of the SDK, with a token like those of Entra ID for storage."""

    def __init__(self, audience: str = "https://storage.azure.com") -> None:
        self._audience = audience

    def get_token(self, *scopes: str, **_: object) -> AccessToken:
        assert scopes == ("https://storage.azure.com/.default",)
        now = int(time.time())
        claims = {
            "aud": self._audience, "iss": f"https://sts.windows.net/{TENANT}/", "iat": now - 60, "nbf": now - 60,
            "exp": now + 3600, "oid": "11111111-1111-1111-1111-111111111111", "tid": TENANT,
        }  # fmt: skip
        parts = (json.dumps(part).encode() for part in ({"alg": "HS256", "typ": "JWT"}, claims))
        token = ".".join(base64.urlsafe_b64encode(part).decode().rstrip("=") for part in parts)
        return AccessToken(f"{token}.c2ln", now + 3600)


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """PEM files for 127.0.0.1: a self-signed certificate, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    files = tmp_path / "certificate.pem", tmp_path / "key.pem"
    files[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return files


@pytest.fixture
def server(tmp_path: Path, certificate: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[AzureServer]:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate[0]))
    try:
        made = AzureServer(tmp_path, certificate)
    except AzuriteUnavailable as error:
        pytest.skip(f"Azurite cannot run here: {error}")
    with made:
        yield made


async def test_the_operator_s_own_identity_lists_reads_and_signs_links(server: AzureServer) -> None:
    container = server.client.create_container("private")
    for key, body in adapter("a").items():
        container.upload_blob(key, body)
    request = a_request("azure", f"{ACCOUNT}/private", endpoint=server.endpoint)

    async def refusal(make: Callable[[], Identity], *allowed: str) -> str:
        with pytest.raises(SourceError) as caught:
            await AzureSource(rules=HostRules(allowed), identity=make).resolve(request, None)
        return caught.value.reason

    assert await refusal(Identity) == "AccessDenied"  # nobody allowed this host by name: asked without a token
    assert await refusal(lambda: Identity("https://elsewhere.example.com"), "127.0.0.1") == "AuthenticationFailed"

    source = AzureSource(rules=HostRules(("127.0.0.1",)), identity=Identity)
    (found,) = (await source.resolve(request, None)).adapters
    link = (await source.locate(request, found)).files[1].link
    assert link is not None and link.expires_at is not None and link.expires_at <= time.time() + 3600
    parts = urlsplit(link.url)
    signed = parse_qs(parts.query)
    assert parts.path == f"/{ACCOUNT}/private/a/{WEIGHTS}"
    # a user delegation SAS, to read this blob only; Azurite checks those of older SDKs only
    assert (signed["sktid"], signed["sp"], signed["sr"]) == ([TENANT], ["r"], ["b"]) and signed["sig"]
