"""What was worked out of objects that never change: worked out again only where one of them is another one by now."""

from __future__ import annotations

from collections.abc import Callable, Container, Sized
from operator import is_
from typing import Generic, Protocol, TypeVar

R = TypeVar("R")


class Keys(Container[str], Sized, Protocol):
    """What is there now."""


class Remembered(Generic[R]):
    """One result for each key. Objects are compared by what they are, not by what they say: that costs nothing."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[tuple[object, ...], R]] = {}

    def of(self, key: str, given: tuple[object, ...], make: Callable[[], R]) -> R:
        """The result for `given`: that of `make`, or what it was for the same objects."""
        known = self._known.get(key)
        if known is not None and len(known[0]) == len(given) and all(map(is_, known[0], given)):
            return known[1]
        made = make()
        self._known[key] = (given, made)
        return made

    def keep(self, keys: Keys) -> None:
        """Forget all others. Costs nothing while none has gone."""
        if len(self._known) > len(keys):
            for key in [key for key in self._known if key not in keys]:
                del self._known[key]
