"""How far a fetch has come, told often enough for people and seldom enough for an API server."""

from __future__ import annotations

from collections.abc import Callable

from lora_operator.fetch.partial import PartialFile

Report = Callable[[int], None]
STEPS = 50
STEP_BYTES_MIN = 1 << 20


class Progress:
    """Calls `report` with the bytes that are there: every fiftieth of the order (1 MiB or more), and at the end."""

    def __init__(self, size_bytes: int, report: Report | None) -> None:
        self._size_bytes = size_bytes
        self._report = report
        self._step = max(STEP_BYTES_MIN, size_bytes // STEPS)
        self._parts: dict[str, int] = {}
        self._told = 0

    def counter(self, path: str, partial: PartialFile) -> Callable[[], None]:
        """To be called whenever more of that file has come."""

        def came() -> None:
            self._parts[path] = partial.have_bytes
            total = sum(self._parts.values())
            if abs(total - self._told) >= self._step:
                self._tell(total)

        return came

    def archive(self) -> None:
        """More of the archive has come: nobody knows how much of it is wanted."""

    def done(self) -> None:
        """Everything is there."""
        self._tell(self._size_bytes)

    def _tell(self, total: int) -> None:
        self._told = total
        if self._report is not None:
            self._report(total)
