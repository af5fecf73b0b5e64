"""Why something could not be fetched."""

from __future__ import annotations


class FetchError(Exception):
    """A version could not be fetched. `reason` is stable and in CamelCase; `message` says what, where and what to do,
    without a link's query or any header. `retryable` is false where somebody has to change something first;
    `retry_after_seconds` is what the server asked for."""

    def __init__(self, reason: str, message: str, *, retryable: bool, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.retryable = retryable
        self.retry_after_seconds = retry_after_seconds
