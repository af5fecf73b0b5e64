"""What a fetch tells about itself as it goes on: the caller makes metrics of it."""

from __future__ import annotations

from typing import Protocol


class Meter(Protocol):
    """Called on the event loop; must return at once and raise nothing. Reasons are those of FetchError: few."""

    def received(self, count_bytes: int) -> None:
        """So many bytes came over the network, wanted or not."""
        ...  # pragma: no cover

    def retried(self, reason: str) -> None:
        """A request failed with `reason` and is made again."""
        ...  # pragma: no cover

    def finished(self, reason: str, size_bytes: int, seconds: float) -> None:
        """A fetch ended: `reason` is "" if it went well. `size_bytes` is what it brought to the disk."""
        ...  # pragma: no cover


class NoMeter:
    """Counts nothing."""

    def received(self, count_bytes: int) -> None:
        """Nothing."""

    def retried(self, reason: str) -> None:
        """Nothing."""

    def finished(self, reason: str, size_bytes: int, seconds: float) -> None:
        """Nothing."""
