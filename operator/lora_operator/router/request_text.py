"""The text of a request, by which an adapter is chosen for it. Pure; a request may be anything that is JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from lora_scheduler.routing.selection import MOST_CHARACTERS

USER = "user"
MOST_PIECES = 2000  # of messages and their parts


def request_text(members: Mapping[str, Any]) -> str:
    """Of a body in one of the APIs that engines have: what the user says in a chat, else the prompt or the input."""
    return said(islice(_pieces(members), MOST_PIECES))


def said(newest_first: Iterable[tuple[str, str]]) -> str:
    """Of (role, text), what the user said: of a long conversation the oldest is what does not count."""
    found: list[str] = []
    length = 0
    for role, text in newest_first:
        if length >= MOST_CHARACTERS:
            break
        if role == USER:
            found.append(text)
            length += len(text)
    return "\n".join(found)


def _pieces(members: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name in ("messages", "prompt", "input"):
        value = members.get(name)
        for one in reversed(value) if isinstance(value, list) else (value,):
            if isinstance(one, str):
                yield USER, one
            elif isinstance(one, Mapping):
                for text in _texts(one.get("content")):
                    yield str(one.get("role")), text


def _texts(content: Any) -> Iterator[str]:
    """Of a message; images and the like say nothing."""
    for part in content if isinstance(content, list) else (content,):
        text = part.get("text") if isinstance(part, Mapping) else part
        if isinstance(text, str):
            yield text
