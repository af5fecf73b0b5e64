"""Things as JSON, each with the version in which it last changed, so that a reader can be told what is new to it."""

from __future__ import annotations

from dataclasses import dataclass, field

GONE_REMEMBERED = 10_000


@dataclass(slots=True)
class _Line:
    number: int
    data: bytes


@dataclass(slots=True)
class Versions:
    """Things of one kind, by `namespace/name`. Versions are numbers that only grow."""

    oldest: int = 0  # what went before that version is forgotten
    _known: dict[str, _Line] = field(default_factory=dict)
    _gone: dict[str, int] = field(default_factory=dict)  # the version in which it went, in that order

    @property
    def keys(self) -> frozenset[str]:
        return frozenset(self._known)

    def put(self, key: str, number: int, data: bytes) -> bool:
        """Whether it is news."""
        line = self._known.get(key)
        if line is not None and line.data == data:
            return False
        self._known[key] = _Line(number, data)
        self._gone.pop(key, None)
        return True

    def drop(self, key: str, number: int) -> None:
        """It is no more."""
        if self._known.pop(key, None) is None:
            return
        self._gone[key] = number
        if len(self._gone) > GONE_REMEMBERED:
            self.oldest = max(self.oldest, self._gone.pop(next(iter(self._gone))))

    def since(self, number: int) -> bytes:
        """A JSON list of those that changed after that version."""
        return b"[" + b",".join(line.data for line in self._known.values() if line.number > number) + b"]"

    def gone_since(self, number: int) -> list[dict[str, str]]:
        """The model `Key` of those that went after that version."""
        keys = (key.partition("/") for key, at in self._gone.items() if at > number)
        return [{"namespace": namespace, "name": name} for namespace, _, name in keys]
