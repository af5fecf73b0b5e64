"""Whether an answer carries the bytes that were asked for, of the version that was asked for."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from lora_operator.fetch.errors import FetchError

_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Answer:
    """What the head of an answer says. `begin`: where its body belongs in the file; `size_bytes`: of the whole file,
    None if it does not tell; `length_bytes`: of the body, None likewise; `tag`: a strong ETag, or when it was changed.
    """

    ranged: bool
    begin: int
    size_bytes: int | None
    length_bytes: int | None
    tag: str


def read_answer(what: str, status: int, headers: Mapping[str, str]) -> Answer:
    """Raises FetchError (BadAnswer) where 206 comes without a proper Content-Range."""
    length = headers.get("Content-Length", "")
    length_bytes = int(length) if length.isascii() and length.isdigit() and len(length) <= 18 else None
    tag = headers.get("ETag", "")
    if not tag or tag.startswith("W/"):
        tag = headers.get("Last-Modified", "")
    if status == 200:
        return Answer(False, 0, length_bytes, length_bytes, tag)
    found = _CONTENT_RANGE.fullmatch(headers.get("Content-Range", ""))
    if found is None or int(found[2]) < int(found[1]):
        raise FetchError(
            "BadAnswer", f"{what} answers a range without saying which: see the server's log", retryable=True
        )
    size = None if found[3] == "*" else int(found[3])
    return Answer(True, int(found[1]), size, int(found[2]) - int(found[1]) + 1, tag)


def check_version(what: str, answer: Answer, etag: str, pinned: str, wanted: str, *, proven: bool) -> None:
    """Raises FetchError (SourceChanged) for other content than the link is for, or than came before.

    `etag`: as the answer has it; `wanted`: the link's tag; `pinned`: what earlier answers had; "" for what is unknown.
    `proven`: a digest will tell in the end; else the answer has to (FetchError, BadAnswer).
    """
    if wanted and not etag and not proven:
        raise FetchError(
            "BadAnswer",
            f"{what} does not tell which version it sends (no ETag), although it did before: see the server",
            retryable=True,
        )
    if (wanted and etag and same_tag(etag) != same_tag(wanted)) or (pinned and answer.tag and answer.tag != pinned):
        raise FetchError(
            "SourceChanged", f"{what} holds other content than was inspected: it is read again", retryable=True
        )


def check_extent(what: str, answer: Answer, asked_from: int, size_bytes: int | None) -> None:
    """Raises FetchError (SizeMismatch, BadAnswer) for a file of another size, or another range than was asked for."""
    if None not in (size_bytes, answer.size_bytes) and answer.size_bytes != size_bytes:
        raise FetchError(
            "SizeMismatch",
            f"{what} has a file of {answer.size_bytes} bytes where {size_bytes} were expected: it is read again, or "
            "correct the source",
            retryable=True,
        )
    if answer.ranged and answer.begin != asked_from:
        raise FetchError(
            "BadAnswer",
            f"{what} answers with bytes from {answer.begin} on where {asked_from} was asked for: see the server's log",
            retryable=True,
        )


def same_tag(tag: str) -> str:
    """An ETag without its quotes and its mark of weakness: stores and their SDKs write one in several ways."""
    return tag.removeprefix("W/").strip('"')
