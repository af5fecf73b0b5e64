"""A server's certificate in files, which cert-manager and the kubelet replace in place."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Sequence
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)


class BadCertificate(Exception):
    """The certificate cannot be used; the message names the files."""


class RenewedCertificate:
    """Looks at the files at each handshake. `alpn` are the protocols that the server speaks."""

    def __init__(self, cert: Path, key: Path, alpn: Sequence[str]) -> None:
        self._cert = cert
        self._key = key
        self._alpn = alpn
        self._stamp: tuple[int, ...] = ()
        self._current: ssl.SSLContext

    def context(self) -> ssl.SSLContext:
        """Raises BadCertificate."""
        try:
            self._stamp = self._look()
            self._current = from_files(self._cert, self._key, self._alpn)
        except OSError as error:  # of which ssl's errors are
            raise BadCertificate(f"{self._cert} and {self._key} are no pair of PEM files: {error}") from error
        self._current.sni_callback = self._shake
        return self._current

    def _shake(self, connection: Any, *_: object) -> None:
        try:
            stamp = self._look()
            if stamp != self._stamp:
                self._stamp, self._current = stamp, from_files(self._cert, self._key, self._alpn)
        except OSError as error:
            log.warning("a renewed certificate cannot be used, the former one is shown: %s", error)
        connection.context = self._current

    def _look(self) -> tuple[int, ...]:
        return tuple(file.stat().st_mtime_ns for file in (self._cert, self._key))


def from_files(cert: Path, key: Path, alpn: Sequence[str]) -> ssl.SSLContext:
    """Raises OSError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(list(alpn))
    context.load_cert_chain(cert, key)
    return context
