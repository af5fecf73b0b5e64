"""The certificate that gateways are shown: from files, which may be renewed at any time, or made at the start."""

from __future__ import annotations

import os
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from lora_operator.process.certificates import BadCertificate, RenewedCertificate, from_files

PROTOCOLS = ("h2",)
VALID = timedelta(days=3650)
EARLIER = timedelta(hours=1)  # clocks differ
COMMON_NAME = "lora-operator-picker"


@dataclass(frozen=True, slots=True)
class Transport:
    """Plain text unless there is a certificate. `self_signed`: gateways encrypt, and do not check who we are."""

    cert_file: str = ""
    key_file: str = ""
    self_signed: bool = False

    def context(self) -> ssl.SSLContext | None:
        """None: plain text. Raises BadCertificate."""
        if self.cert_file:
            try:
                return RenewedCertificate(Path(self.cert_file), Path(self.key_file), PROTOCOLS).context()
            except BadCertificate as error:
                raise BadCertificate(f"--picker-tls-cert and --picker-tls-key: {error}") from error
        return _made() if self.self_signed else None


def make_pair() -> tuple[bytes, bytes]:
    """A certificate that vouches for itself, and its key, as PEM."""
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
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(COMMON_NAME)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    encoding = serialization.Encoding.PEM
    secret = key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return certificate.public_bytes(encoding), secret


def _made() -> ssl.SSLContext:
    certificate, secret = make_pair()
    with _as_file(certificate + secret) as file:
        return from_files(file, file, PROTOCOLS)


@contextmanager
def _as_file(data: bytes) -> Iterator[Path]:
    """ssl takes files only, and a pod may have no place to write to."""
    if not hasattr(os, "memfd_create"):
        with tempfile.NamedTemporaryFile() as file:
            file.write(data)
            file.flush()
            yield Path(file.name)
        return
    number = os.memfd_create("certificate")
    try:
        os.write(number, data)
        yield Path(f"/proc/self/fd/{number}")
    finally:
        os.close(number)
