"""Tells what a watch shows of our own writes from what others change: a write of ours says what is known already, and
nothing has to be planned anew for it.

A watch often shows a write before its answer comes. What is shown meanwhile is held to be the write, until the answer
says what that made of the object.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Key = tuple[str, str]  # which kind of object, and its namespace/name
LORA_ADAPTER, LORA_ENDPOINT = "LoraAdapter", "LoraEndpoint"


class OwnWrite:
    """One that is under way."""

    def __init__(self) -> None:
        self.shown = False  # whether a watch showed the object meanwhile
        self.news: bool | None = None  # whether what is known by now is more than we said; None: there was no answer


class OwnWrites:
    """`changed` is called where an object is otherwise than a write of ours made it, or may be."""

    def __init__(self, changed: Callable[[], None] = lambda: None) -> None:
        self._changed = changed
        self._under_way: dict[Key, list[OwnWrite]] = {}

    def may_be(self, key: Key) -> bool:
        """Whether what a watch shows of this object just now may be a write of ours. If not, `changed` is called when
        that is known."""
        under_way = self._under_way.get(key, ())
        for write in under_way:
            write.shown = True
        return bool(under_way)

    @contextmanager
    def writing(self, key: Key) -> Iterator[OwnWrite]:
        """To be left when the answer was taken in; say then whether there is `news`."""
        write = OwnWrite()
        self._under_way.setdefault(key, []).append(write)
        try:
            yield write
        finally:
            self._under_way[key].remove(write)
            if not self._under_way[key]:
                del self._under_way[key]
            if write.shown if write.news is None else write.news:
                self._changed()
