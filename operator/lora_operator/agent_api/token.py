"""The shared token of operator and agents, read from a file: a Secret that is mounted and may be rotated."""

from __future__ import annotations

import hmac
from pathlib import Path

TOKEN_MIN = 16


class TokenError(Exception):
    """The token cannot be read, or is none."""


class TokenFile:
    """Reads the file at each use: a mounted Secret changes in place."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> str:
        """Raises TokenError."""
        try:
            token = self._path.read_text(encoding="ascii").strip()
        except (OSError, ValueError) as error:
            problem = error.strerror if isinstance(error, OSError) else "it is not text"
            raise TokenError(f"the agent token in {self._path} cannot be read: {problem}") from None
        if len(token) < TOKEN_MIN or not token.isprintable() or " " in token:
            raise TokenError(
                f"the agent token in {self._path} has {len(token)} characters: use {TOKEN_MIN} or more, no spaces"
            )
        return token

    def accepts(self, header: str) -> bool:
        """Whether an Authorization header carries the token; takes the same time for every wrong one."""
        return hmac.compare_digest(header.encode("utf-8", "replace"), f"Bearer {self.read()}".encode())
