"""Which names an adapter may have.

A name becomes a path component on disk, a model id in the engine, and a value in the engine's comma-separated metric.
"""

from __future__ import annotations

import re

MAX_NAME_LENGTH = 128
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*", re.ASCII)
_VERSIONED = re.compile(r"--[0-9a-fA-F]{8,16}\Z")
_SHOWN = 60


_ODD = re.compile(r"[^A-Za-z0-9._-]+", re.ASCII)


def served_as(template: str | None, name: str) -> str:
    """What an adapter is called that its source calls `name`: `{name}` stands for that, `{slug}` for it with a hyphen
    in place of what a name may not hold. Without a template it keeps its name."""
    if template is None:
        return name
    slug = re.sub(r"\.{2,}", ".", _ODD.sub("-", name)).strip("-_.")
    return template.replace("{name}", name).replace("{slug}", slug)


class InvalidAdapterName(ValueError):
    """The name cannot be used; the message quotes it and says which rule it breaks."""


def valid_adapter_name(name: str, *, base_model: str | None = None) -> None:
    """Return if `name` may be an adapter's name, else raise InvalidAdapterName.

    `base_model`, where given, is the served name of the base model: on some engine releases an adapter of that name
    takes the base's place, on others nobody can reach it.
    """
    shown = name if len(name) <= _SHOWN else name[:_SHOWN] + "…"
    if not name:
        raise InvalidAdapterName("the adapter name is empty: give it 1 to 128 letters, digits, '.', '_' or '-'")
    if len(name) > MAX_NAME_LENGTH:
        raise InvalidAdapterName(
            f"adapter name {shown!r} has {len(name)} characters: use at most {MAX_NAME_LENGTH}",
        )
    if not _NAME.fullmatch(name):
        raise InvalidAdapterName(
            f"adapter name {shown!r} has a character that is not allowed: use letters, digits, '.', '_' and '-', "
            "beginning with a letter or digit, or call it otherwise with servedName ({slug} makes a name of any)",
        )
    if ".." in name:
        raise InvalidAdapterName(f"adapter name {shown!r} contains '..': use single dots only")
    if _VERSIONED.search(name):
        raise InvalidAdapterName(
            f"adapter name {shown!r} ends like a versioned engine name ('--' and 8 to 16 hex digits), which is "
            "reserved for roll-outs: choose another ending",
        )
    if base_model is not None and name == base_model:
        raise InvalidAdapterName(
            f"adapter name {shown!r} is the base model's own name: choose another name with servedName",
        )
