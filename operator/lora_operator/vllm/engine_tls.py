"""Engines that speak TLS: how they are checked, and what to say where that does not go well."""

from __future__ import annotations

import ssl
from collections.abc import Callable

import aiohttp

from lora_operator.vllm.errors import bounded

EngineTls = Callable[[], ssl.SSLContext]

PLAIN_HINT = (
    "; if it speaks TLS, say so in the annotation production-stack.vllm-project/scheme: https, and if a mesh demands "
    "mTLS, take the operator into the mesh or let the engine's port accept plain text"
)


def engine_tls(ca_file: str = "", *, verify: bool = True) -> ssl.SSLContext:
    """How engines that speak TLS are checked: by this CA, and those of the system. Their names are not compared: they
    are asked by the addresses of their pods, which no certificate has.

    Raises:
        OSError: the file cannot be read, or holds no certificates.
    """
    context = ssl.create_default_context()
    if ca_file:
        context.load_verify_locations(cafile=ca_file)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED if verify else ssl.CERT_NONE
    return context


def why_no_tls(error: aiohttp.ClientConnectorCertificateError | aiohttp.ClientConnectorSSLError) -> str:
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        said = bounded(str(error.certificate_error))
        return (
            f"its certificate is not trusted ({said}): give the operator the CA of the engines with "
            "--ca-file, or set --no-engine-tls-verify"
        )
    return (
        f"it does not speak TLS ({bounded(str(error))}), though its pod looks so: if it speaks plain HTTP, say "
        "so in the annotation production-stack.vllm-project/scheme: http"
    )
