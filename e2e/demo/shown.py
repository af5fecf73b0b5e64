"""Paths and commands as a user would type them from here."""

from __future__ import annotations

import sys
from pathlib import Path


def python(*arguments: str) -> str:
    """A command line of this Python, as a user would type it from here."""
    return " ".join((shown(Path(sys.executable)), *arguments))


def shown(path: Path) -> str:
    """As a user would type it from here."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
