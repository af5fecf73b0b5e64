"""Tokens of a file, for development and tests: {"TOKEN": {"subject": "alice", "groups": [], "admin": false}}."""

from __future__ import annotations

import hashlib
import hmac
import json
from pathlib import Path

from lora_library.model import Principal
from lora_operator.settings.options import SettingsError

SHORTEST = 8


class TokenFile:
    """Raises SettingsError where the file cannot be used."""

    def __init__(self, path: Path) -> None:
        try:
            content = json.loads(path.read_text())
            self._principals = {
                _digest(token): Principal(
                    str(who["subject"]), frozenset(map(str, who.get("groups", ()))), bool(who.get("admin", False))
                )
                for token, who in content.items()
                if len(token) >= SHORTEST
            }
            short = len(content) - len(self._principals)
        except (OSError, ValueError, AttributeError, KeyError, TypeError) as error:
            raise SettingsError(
                f"--token-file: {path} cannot be used ({type(error).__name__}): write "
                '{"TOKEN": {"subject": "alice"}}'
            ) from None
        if short:
            raise SettingsError(f"--token-file: {path} has {short} tokens of less than {SHORTEST} characters")

    async def verify(self, token: str) -> Principal | None:
        """See `Verifier`. Takes as long whichever token it is."""
        given, found = _digest(token), None
        for known, principal in self._principals.items():
            if hmac.compare_digest(known, given):
                found = principal
        return found


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
