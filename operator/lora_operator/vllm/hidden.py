"""Text of a pod of which a part cannot be seen: what comes from a Secret, from the image, or from a program's output.

Hidden parts stand in the text as private-use characters around a name. They are never guessed.
"""

from __future__ import annotations

import re

_OPEN, _CLOSE, _MANY = "\ue000", "\ue001", "\ue002"
_PART = re.compile(f"{_OPEN}([^{_CLOSE}]*){_CLOSE}{_MANY}?")
_MARKS = str.maketrans("", "", _OPEN + _CLOSE + _MANY)


def hidden(name: str, *, many: bool = False) -> str:
    """A hidden part, called `name` in messages. `many`: a shell may make no word of it, or several."""
    return f"{_OPEN}{name.translate(_MARKS)}{_CLOSE}{_MANY if many else ''}"


def unmarked(text: str) -> str:
    """Text from outside, in which these characters mean nothing."""
    return text.translate(_MARKS)


def is_hidden(text: str) -> bool:
    """Whether a part of it cannot be seen."""
    return _OPEN in text


def may_be_many(word: str) -> bool:
    """Whether a part of it may be no word, or several."""
    return _MANY in word


def split_apart(text: str) -> str:
    """The same text where a shell reads it: any hidden part may then hold anything."""
    return _PART.sub(lambda match: hidden(match[1], many=True), text)


def hidden_name(text: str) -> str | None:
    """The name of the hidden part that `text` is as a whole."""
    match = _PART.fullmatch(text)
    return match[1] if match else None


def shown(text: str) -> str:
    """For messages: hidden parts as the variables that they come from."""
    return _PART.sub(r"$(\1)", text)
