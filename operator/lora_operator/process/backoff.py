"""How long to wait before something that failed is tried again. Pure; jitter is the caller's."""

from __future__ import annotations


def doubled(first_seconds: float, times: int, most_seconds: float) -> float:
    """`first_seconds`, doubled so many times, and never more than `most_seconds`, however long it has failed."""
    return min(first_seconds * 2.0 ** min(times, 64), most_seconds)
