"""Which bytes of a file are there: a set of ranges. Pure."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator

Span = tuple[int, int]  # [begin, end)


class Spans:
    """Ranges [begin, end), kept sorted, merged and apart from each other."""

    def __init__(self, spans: Iterable[Span] = ()) -> None:
        self._begins: list[int] = []
        self._ends: list[int] = []
        for begin, end in spans:
            self.add(begin, end)

    def add(self, begin: int, end: int) -> None:
        """Count [begin, end) in; what overlaps or touches becomes one."""
        if begin >= end:
            return
        first = bisect_left(self._ends, begin)
        last = bisect_right(self._begins, end)
        if first < last:
            begin, end = min(begin, self._begins[first]), max(end, self._ends[last - 1])
        self._begins[first:last] = [begin]
        self._ends[first:last] = [end]

    @property
    def prefix(self) -> int:
        """How many bytes from the first on are there without a hole."""
        return self._ends[0] if self._begins and self._begins[0] == 0 else 0

    @property
    def count_bytes(self) -> int:
        """How many bytes are there."""
        return sum(self._ends) - sum(self._begins)

    def __iter__(self) -> Iterator[Span]:
        return zip(self._begins, self._ends, strict=True)

    def missing(self, size_bytes: int) -> list[Span]:
        """What is absent of a file of that size, in order."""
        borders = [0, *(place for span in self for place in span), size_bytes]
        holes = zip(borders[::2], borders[1::2], strict=True)
        return [(begin, min(end, size_bytes)) for begin, end in holes if begin < min(end, size_bytes)]


def pieces(span: Span, piece_bytes: int) -> Iterator[Span]:
    """The same range, cut so that no piece is longer than `piece_bytes`."""
    begin, end = span
    while begin < end:
        yield begin, min(begin + piece_bytes, end)
        begin += piece_bytes
