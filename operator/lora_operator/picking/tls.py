"""The certificate that gateways are shown: from files, which may be renewed at any time, or made at the start."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

VALID = timedelta(days=3650)
EARLIER = timedelta(hours=1)  # clocks differ
COMMON_NAME = "lora-operator-picker"


class BadCertificate(Exception):
    """The certificate cannot be used; the message names the file."""


@dataclass(frozen=True, slots=True)
class Transport:
    """Plain text unless there is a certificate. `self_signed`: gateways encrypt, and do not check who we are."""

    cert_file: str = ""
    key_file: str = ""
    self_signed: bool = False

    def credentials(self) -> grpc.ServerCredentials | None:
        """None: plain text. Raises BadCertificate."""
        if self.cert_file:
            return _from_files(Path(self.cert_file), Path(self.key_file))
        return grpc.ssl_server_credentials([_made()]) if self.self_signed else None


def _from_files(cert: Path, key: Path) -> grpc.ServerCredentials:
    """Looked at again at each handshake: cert-manager renews files in place."""
    pair = _read(cert, key)
    return grpc.dynamic_ssl_server_credentials(_configuration(pair), _renewed(cert, key, pair), False)


def _renewed(
    cert: Path, key: Path, pair: tuple[bytes, bytes]
) -> Callable[[], grpc.ServerCertificateConfiguration | None]:
    known = pair

    def look() -> grpc.ServerCertificateConfiguration | None:
        nonlocal known
        try:
            found = _read(cert, key)
        except BadCertificate:
            return None  # half written: the one before serves on
        if found == known:
            return None
        known = found
        return _configuration(found)

    return look


def _configuration(pair: tuple[bytes, bytes]) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([pair])


def _read(cert: Path, key: Path) -> tuple[bytes, bytes]:
    """Private key and chain, if they belong together. Raises BadCertificate."""
    try:
        chain, secret = cert.read_bytes(), key.read_bytes()
        public = x509.load_pem_x509_certificate(chain).public_key()
        private = serialization.load_pem_private_key(secret, None)
    except (OSError, ValueError, TypeError) as error:
        raise BadCertificate(
            f"--picker-tls-cert {cert} and --picker-tls-key {key} are no pair of PEM files: {error}"
        ) from error
    if _raw(private.public_key()) != _raw(public):
        raise BadCertificate(
            f"the key in {key} is not that of the certificate in {cert}; give the two that were made together"
        )
    return secret, chain


def _raw(key: object) -> bytes:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return key.public_bytes(serialization.Encoding.DER, form)  # type: ignore[attr-defined, no-any-return]


def _made() -> tuple[bytes, bytes]:
    """Private key and certificate, in memory only."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, COMMON_NAME)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - EARLIER)
        .not_valid_after(now + VALID)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    encoding = serialization.Encoding.PEM
    secret = key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return secret, certificate.public_bytes(encoding)
