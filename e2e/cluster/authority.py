"""A certificate authority for one cluster, and the users of its API server."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAYS = 365
ADMINISTRATORS = "system:masters"


@dataclass(frozen=True, slots=True)
class Certificate:
    """Files in PEM."""

    certificate: Path
    key: Path


class Authority:
    """Signs the certificates of one cluster; its own is `certificate`."""

    def __init__(self, directory: Path) -> None:
        """A new one, with its files in `directory`."""
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "cluster")])
        builder = self._builder(self._name, self._key).add_extension(x509.BasicConstraints(True, 0), critical=True)
        self.certificate = directory / "ca.crt"
        signed = builder.sign(self._key, hashes.SHA256())
        self.certificate.write_bytes(signed.public_bytes(serialization.Encoding.PEM))

    def issue(
        self, user: str, *, group: str = "", names: Sequence[str] = (), addresses: Sequence[IPv4Address] = ()
    ) -> Certificate:
        """A certificate of this user, which may also serve under these names and addresses."""
        key = ec.generate_private_key(ec.SECP256R1())
        parts = [x509.NameAttribute(NameOID.COMMON_NAME, user)]
        if group:
            parts.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, group))
        uses = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH])
        builder = self._builder(x509.Name(parts), key).add_extension(uses, critical=False)
        if names or addresses:
            held = [*(x509.DNSName(name) for name in names), *(x509.IPAddress(one) for one in addresses)]
            builder = builder.add_extension(x509.SubjectAlternativeName(held), critical=False)
        stem = self._directory / user.replace(":", "-")
        made = Certificate(stem.with_name(f"{stem.name}.crt"), stem.with_name(f"{stem.name}.key"))
        made.certificate.write_bytes(builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
        write_private(
            made.key,
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            ),
        )
        return made

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        now = datetime.now(UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=DAYS))
        )


@dataclass(frozen=True, slots=True)
class Users:
    """Tokens of the API server's users, by name, and the file that it reads them from."""

    tokens: dict[str, str]
    file: Path


def make_users(directory: Path, groups: dict[str, str]) -> Users:
    """One token for each user; `groups` has the group of each, or nothing."""
    tokens = {user: secrets.token_hex(20) for user in groups}
    file = directory / "tokens.csv"
    lines = (f'{tokens[user]},{user},{user},"{group}"\n' for user, group in groups.items())
    write_private(file, "".join(lines).encode())
    return Users(tokens, file)


def write_private(path: Path, content: bytes) -> None:
    """Readable by the user alone."""
    path.touch(mode=0o600)
    path.write_bytes(content)
