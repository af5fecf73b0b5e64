"""A request's prompt as a chain of hashes: two prompts with the same first blocks begin with the same text. Pure.

Text and roles, not tokens: no tokenizer and no chat template is needed, and what differs in the text differs in the
tokens. Hashes are Python's own, which are keyed anew in each process: nobody can make prompts that collide.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

BLOCK_CHARACTERS = 256  # some 64 tokens
BLOCK_TOKENS = 64
MOST_BLOCKS = 128  # what comes behind is not read: 32,768 characters tell prompts apart
MOST_CHARACTERS = BLOCK_CHARACTERS * MOST_BLOCKS
MOST_PIECES = 2000  # of messages and their parts
MARK_CHARACTERS, MARK_ITEMS = 1024, 16
SESSION_CHARACTERS = 1024
BLOCKS_OF_THOUSAND = 16  # blocks of a thousand tokens

# members of a request that make its prompt or say whose it is, in the APIs that engines have
MEMBERS = frozenset({"messages", "prompt", "input", "instructions", "tools", "prompt_cache_key", "user"})


@dataclass(frozen=True, slots=True)
class Prompt:
    """`blocks`: a hash for each whole block and all before it. `session`: of the key that says which requests belong
    together, 0 if none does. `thousands`: of tokens, about, as far as it was read."""

    blocks: tuple[int, ...] = ()
    session: int = 0
    thousands: float = 0.0

    def __bool__(self) -> bool:
        return bool(self.blocks or self.session)


NO_PROMPT = Prompt()


def prompt_of(members: Mapping[str, Any], session: str = "") -> Prompt:
    """Of a request's body, whatever is in there. `session`: what a header says; else the body's `prompt_cache_key`, or
    `user`."""
    key = session or _text(members.get("prompt_cache_key")) or _text(members.get("user"))
    mark = hash(("session", key[:SESSION_CHARACTERS])) or 1 if key else 0
    prompt = members.get("prompt")
    if isinstance(prompt, list) and prompt and isinstance(prompt[0], int):
        return Prompt(_of_tokens(prompt), mark, min(len(prompt), MOST_BLOCKS * BLOCK_TOKENS) / 1000)
    text = _joined(members)
    return Prompt(_of_text(text), mark, len(text) / BLOCK_CHARACTERS / BLOCKS_OF_THOUSAND)


def _of_text(text: str) -> tuple[int, ...]:
    blocks, last = [], 0
    for at in range(0, len(text) - BLOCK_CHARACTERS + 1, BLOCK_CHARACTERS):
        last = hash((last, text[at : at + BLOCK_CHARACTERS]))
        blocks.append(last)
    return tuple(blocks)


def _of_tokens(tokens: list[Any]) -> tuple[int, ...]:
    blocks, last = [], 0
    for at in range(0, min(len(tokens) - BLOCK_TOKENS + 1, MOST_BLOCKS * BLOCK_TOKENS), BLOCK_TOKENS):
        block = tuple(tokens[at : at + BLOCK_TOKENS])
        if not all(isinstance(token, int) for token in block):
            break
        last = hash((last, block))
        blocks.append(last)
    return tuple(blocks)


def _joined(members: Mapping[str, Any]) -> str:
    """What the engine will make its prompt of, in that order, up to MOST_CHARACTERS."""
    pieces, size = [], 0
    for number, piece in enumerate(_pieces(members)):
        left = MOST_CHARACTERS - size
        if left <= 0 or number == MOST_PIECES:
            break
        pieces.append(piece[:left])
        size += len(pieces[-1])
    return "".join(pieces)


def _pieces(members: Mapping[str, Any]) -> Iterator[str]:
    tools = members.get("tools")
    if isinstance(tools, list):
        yield "\0tools\0"
        yield from (_marked(tool) for tool in tools[:MOST_BLOCKS])
    yield _text(members.get("instructions"))
    for name in ("messages", "prompt", "input"):
        said = members.get(name)
        if isinstance(said, str):
            yield said
        elif isinstance(said, Sequence):
            for one in said:
                yield from _said(one)


def _said(message: Any) -> Iterator[str]:
    """A message of a chat, or one of several texts."""
    if isinstance(message, str):
        yield message
        return
    if not isinstance(message, Mapping):
        return
    yield f"\0{_text(message.get('role'))[:32]}\0"
    content = message.get("content")
    if isinstance(content, str):
        yield content
    elif isinstance(content, list):
        for part in content:
            if isinstance(part, Mapping):
                text = part.get("text")
                yield text if isinstance(text, str) else _marked(part)
    if "tool_calls" in message:
        yield _marked(message["tool_calls"])


def _marked(value: Any, depth: int = 4) -> str:
    """What is no text (a tool, an image): all that counts is whether it is the same. Large ones are not read whole."""
    if isinstance(value, str):
        return value if len(value) <= MARK_CHARACTERS else f"{value[:256]}{len(value)}{value[-256:]}"
    if depth and isinstance(value, Mapping):
        items = [f"{name}:{_marked(value[name], depth - 1)}" for name in islice(value, MARK_ITEMS)]
        return f"{{{','.join(items)}}}{len(value)}"
    if depth and isinstance(value, list):
        return f"[{','.join(_marked(one, depth - 1) for one in value[:MARK_ITEMS])}]{len(value)}"
    return str(value) if isinstance(value, int | float) else ""


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""
