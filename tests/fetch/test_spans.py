"""Sets of byte ranges against sets of bytes."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from lora_operator.fetch.spans import Spans, pieces

SIZE = 60
spans = st.lists(st.tuples(st.integers(0, SIZE), st.integers(0, SIZE)), max_size=12)


@given(spans)
def test_spans_are_the_set_of_their_bytes(added: list[tuple[int, int]]) -> None:
    found = Spans(added)
    byte_set = {place for begin, end in added for place in range(begin, end)}
    assert {place for begin, end in found for place in range(begin, end)} == byte_set
    assert found.count_bytes == len(byte_set)
    assert found.prefix == next(place for place in range(SIZE + 1) if place not in byte_set)
    missing = {place for begin, end in found.missing(SIZE) for place in range(begin, end)}
    assert missing == set(range(SIZE)) - byte_set


@given(spans)
def test_spans_are_sorted_and_neither_touch_nor_are_empty(added: list[tuple[int, int]]) -> None:
    borders = [place for span in Spans(added) for place in span]
    assert all(left < right for left, right in pairwise(borders))


@given(st.integers(0, 50), st.integers(0, 50), st.integers(1, 20))
def test_pieces_follow_each_other_and_none_is_too_long(begin: int, end: int, longest: int) -> None:
    cut = list(pieces((begin, end), longest))
    assert [place for piece in cut for place in range(*piece)] == list(range(begin, end))
    assert all(0 < last - first <= longest for first, last in cut)
