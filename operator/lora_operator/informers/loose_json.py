"""Reads JSON of which nothing is certain: what is not of the type that is looked for counts as absent. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def listing(value: object) -> list[Any] | tuple[Any, ...]:
    return value if isinstance(value, (list, tuple)) else ()


def text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
