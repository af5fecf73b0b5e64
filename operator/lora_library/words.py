"""What people write about their adapters, checked: tags, descriptions, metadata, whom they share with. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from lora_library.model import EVERYBODY
from lora_library.problems import Problem

MOST_TAGS = 32
TAG_LENGTH = 64
DESCRIPTION_LENGTH = 10_000
ATTRIBUTES_BYTES = 64 << 10
ATTRIBUTES_DEPTH = 32  # what writes answers has a limit too
MOST_SHARES = 200
PARTY_LENGTH = 512


def tags_of(values: Iterable[str]) -> tuple[str, ...]:
    """Tags of a repeated field, of one with commas, or of a JSON list. Raises Problem."""
    given: list[str] = []
    for value in values:
        if value.lstrip().startswith("["):
            try:
                listed = json.loads(value)
            except (ValueError, RecursionError):
                raise Problem("INVALID_REQUEST", "tags is no JSON list: repeat the field tags[] instead") from None
            given += [each for each in listed if isinstance(each, str)]
        else:
            given += value.split(",")
    return clean_tags(given)


def clean_tags(values: Iterable[str]) -> tuple[str, ...]:
    tags = sorted({each.strip() for each in values if each.strip()})
    if len(tags) > MOST_TAGS or any(len(each) > TAG_LENGTH for each in tags):
        raise Problem("INVALID_REQUEST", f"there may be {MOST_TAGS} tags of {TAG_LENGTH} characters")
    return tuple(_plain(each, "a tag") for each in tags)


def description_of(text: str) -> str:
    if len(text) > DESCRIPTION_LENGTH:
        raise Problem("INVALID_REQUEST", f"a description may have {DESCRIPTION_LENGTH} characters")
    return _plain(text, "the description", lines=True)


def attributes_of(text: str) -> dict[str, Any]:
    """Metadata that is a JSON object. Raises Problem."""
    try:
        found = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        found = None
    return checked_attributes(found)


def checked_attributes(found: Any) -> dict[str, Any]:
    if not isinstance(found, dict):
        raise Problem("INVALID_REQUEST", 'metadata is a JSON object, such as {"run": "42"}')
    try:
        if _deeper(found, ATTRIBUTES_DEPTH):
            raise ValueError
        written = json.dumps(found, allow_nan=False)
    except ValueError:
        raise Problem(
            "INVALID_REQUEST", "metadata has numbers that JSON does not know, or is nested too deeply"
        ) from None
    if len(written) > ATTRIBUTES_BYTES:
        raise Problem("INVALID_REQUEST", f"metadata may have {ATTRIBUTES_BYTES} bytes")
    if "\\u0000" in written or _has_surrogate(found):
        raise Problem("INVALID_REQUEST", "metadata has characters that are no text")
    return found


def parties_of(users: Iterable[str], groups: Iterable[str], everybody: bool) -> tuple[str, ...]:
    """Whom an adapter is shared with. Raises Problem."""
    found = [f"user:{each}" for each in users] + [f"group:{each}" for each in groups]
    if len(found) > MOST_SHARES or any(len(each) > PARTY_LENGTH for each in found):
        raise Problem("INVALID_REQUEST", f"it may be shared with {MOST_SHARES} users and groups; or with everybody")
    for each in found:
        _plain(each, "a name to share with")
    return tuple(sorted({*found, *([EVERYBODY] if everybody else [])}))


def _plain(text: str, what: str, *, lines: bool = False) -> str:
    allowed = "\n\r\t" if lines else ""
    if any((ord(each) < 32 and each not in allowed) or 0xD800 <= ord(each) < 0xE000 for each in text):
        raise Problem("INVALID_REQUEST", f"{what} has characters that are no text")
    return text


def _deeper(found: Any, levels: int) -> bool:
    """Whether it is nested deeper than that."""
    inside = found.values() if isinstance(found, dict) else found if isinstance(found, list) else ()
    return levels < 0 or any(_deeper(each, levels - 1) for each in inside)


def _has_surrogate(found: Any) -> bool:
    """Half of a pair, which no database takes."""
    try:
        json.dumps(found, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False


def _no_constant(name: str) -> None:
    raise ValueError(name)
