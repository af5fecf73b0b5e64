"""A meter that remembers."""

from __future__ import annotations

from collections import Counter


class Tally:
    """`ended`: the reason of each fetch that ended, "" for those that went well."""

    def __init__(self) -> None:
        self.received_bytes = 0
        self.retries: Counter[str] = Counter()
        self.ended: list[str] = []

    def received(self, count_bytes: int) -> None:
        self.received_bytes += count_bytes

    def retried(self, reason: str) -> None:
        self.retries[reason] += 1

    def finished(self, reason: str, size_bytes: int, seconds: float) -> None:
        self.ended.append(reason)
