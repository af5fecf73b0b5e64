"""How much all uploads under way may have on the work disk: a full one would end everybody's uploads."""

from __future__ import annotations

import threading

from lora_library.problems import Problem


class Room:
    """For all threads. `most_bytes`: 0 is no bound."""

    def __init__(self, most_bytes: int = 0) -> None:
        self._most_bytes = most_bytes
        self._held: dict[str, int] = {}
        self._lock = threading.Lock()

    def begin(self, upload: str) -> None:
        with self._lock:
            self._held[upload] = 0

    def take(self, upload: str, size_bytes: int) -> None:
        """So many more, before they are written. Raises Problem (TOO_MANY_UPLOADS)."""
        with self._lock:
            if upload not in self._held:  # a thread may go on for a moment where its upload was broken off
                raise Problem("INVALID_REQUEST", "the upload has ended")
            if self._most_bytes and sum(self._held.values()) + size_bytes > self._most_bytes:
                raise Problem("TOO_MANY_UPLOADS", "uploads under way fill the disk for them: send it again in a moment")
            self._held[upload] += size_bytes

    def give_back(self, upload: str) -> None:
        """All that it has."""
        with self._lock:
            self._held.pop(upload, None)
