"""Tokens, the key that signs service account tokens, and kubeconfig files; nothing beyond the standard library."""

from __future__ import annotations

import base64
import json
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CONTROLLERS_USER = "system:kube-controller-manager"
# order of the curve P-256: a private key is a number from 1 to this less one
_P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


@dataclass(frozen=True, slots=True)
class Credentials:
    """Files and tokens that one control plane starts with."""

    admin_token: str
    controllers_token: str
    tokens_file: Path
    signing_key: Path


def make_credentials(directory: Path) -> Credentials:
    """Write a token file and a signing key into `directory`, readable by the user alone.

    The controller manager is an administrator too, under a name of its own: so the audit log tells them apart.
    """
    admin, controllers = secrets.token_hex(20), secrets.token_hex(20)
    users = {"admin": admin, CONTROLLERS_USER: controllers}
    tokens = directory / "tokens.csv"
    _write_private(tokens, "".join(f'{token},{user},{user},"system:masters"\n' for user, token in users.items()))
    key = directory / "service-account.key"
    _write_private(key, ec_private_key_pem())
    return Credentials(admin, controllers, tokens, key)


def ec_private_key_pem() -> str:
    """A new P-256 private key in the form of RFC 5915; the public half is left out, readers compute it."""
    number = 1 + secrets.randbelow(_P256_ORDER - 1)
    version = bytes([0x02, 0x01, 0x01])
    private = bytes([0x04, 0x20]) + number.to_bytes(32, "big")
    curve = bytes([0xA0, 0x0A, 0x06, 0x08, 0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x03, 0x01, 0x07])  # OID prime256v1
    content = version + private + curve
    text = base64.b64encode(bytes([0x30, len(content)]) + content).decode()
    lines = "\n".join(text[start : start + 64] for start in range(0, len(text), 64))
    return f"-----BEGIN EC PRIVATE KEY-----\n{lines}\n-----END EC PRIVATE KEY-----\n"


def write_kubeconfig(
    path: Path, *, url: str, authority: bytes | None, token: str, user: str, namespace: str = "default"
) -> None:
    """Write a kubeconfig with one context. `authority` is PEM and goes inside, so that the file can be moved."""
    cluster: dict[str, Any] = {"server": url}
    if authority is None:
        cluster["insecure-skip-tls-verify"] = True
    else:
        cluster["certificate-authority-data"] = base64.b64encode(authority).decode()
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "local", "cluster": cluster}],
        "users": [{"name": user, "user": {"token": token}}],
        "contexts": [{"name": "local", "context": {"cluster": "local", "user": user, "namespace": namespace}}],
        "current-context": "local",
    }
    _write_private(path, json.dumps(document, indent=1))  # JSON is YAML too


def _write_private(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text)
