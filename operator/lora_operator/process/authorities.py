"""Whose certificates are believed where files and lists come from: the system's authorities, and others beside them.

`ca_file` is a PEM file, most often a mounted ConfigMap; empty for none. It is read again when it changes.
"""

from __future__ import annotations

import hashlib
import os
import ssl
import tempfile
from contextlib import suppress
from functools import lru_cache
from pathlib import Path


def check_ca_file(ca_file: str) -> None:
    """Raises ValueError where it cannot be read or has no certificate."""
    if not ca_file:
        return
    try:
        _context(ca_file, _version(ca_file))
    except (OSError, ssl.SSLError) as error:
        raise ValueError(f"{ca_file}: {error}; name a PEM file with certificates of authorities") from error


def context_for(ca_file: str) -> ssl.SSLContext | bool:
    """For aiohttp: True is what it has by itself. Raises OSError where the file has gone."""
    return _context(ca_file, _version(ca_file)) if ca_file else True


def bundle_for(ca_file: str) -> str | None:
    """For SDKs that take one file instead of what they have by themselves: theirs and ours in one. None for none."""
    return _bundle(ca_file, _version(ca_file)) if ca_file else None


def _version(ca_file: str) -> tuple[int, int]:
    found = Path(ca_file).stat()
    return found.st_mtime_ns, found.st_ino


@lru_cache(maxsize=2)
def _context(ca_file: str, version: tuple[int, int]) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.load_verify_locations(cafile=ca_file)
    return context


@lru_cache(maxsize=2)
def _bundle(ca_file: str, version: tuple[int, int]) -> str:
    import certifi  # what botocore and requests have by themselves

    text = Path(certifi.where()).read_text() + "\n" + Path(ca_file).read_text()
    digest = hashlib.sha256(text.encode()).hexdigest()
    with tempfile.NamedTemporaryFile("w", prefix="authorities-", suffix=".pem", delete=False) as made:
        made.write(text)
    # one file for each content, however often this starts; where another user holds its name, a new one has to do
    shared = Path(made.name).with_name(f"authorities-{os.getuid()}-{digest[:32]}.pem")
    with suppress(PermissionError):
        Path(made.name).replace(shared)
        return str(shared)
    return made.name
