"""Pauses after failures."""

from __future__ import annotations

from lora_operator.process.backoff import doubled


def test_pauses_double_up_to_the_longest_however_often_something_failed() -> None:
    assert [doubled(0.5, times, 30.0) for times in range(8)] == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]
    assert doubled(1.0, 10**6, 60.0) == 60.0  # an engine that refuses for weeks: 2.0 ** 1024 is no number
