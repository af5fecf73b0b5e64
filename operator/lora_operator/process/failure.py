"""What errors with a reason have in common."""

from __future__ import annotations


class Failure(Exception):
    """`reason` is stable and in CamelCase; `message` says what, where and what to do, without a link's query or any
    header. `retryable` is false where somebody has to change something first; `retry_after_seconds` is what was asked
    for by the other side."""

    def __init__(self, reason: str, message: str, *, retryable: bool, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.retryable = retryable
        self.retry_after_seconds = retry_after_seconds
