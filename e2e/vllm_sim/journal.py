"""What happened, with the time of day, so that a test or a benchmark can ask for it afterwards."""

from __future__ import annotations

import time
from collections import Counter, deque
from typing import Any

_KEPT = 20_000


class Journal:
    """Events in order (the oldest are dropped after 20,000) and calls per endpoint."""

    def __init__(self) -> None:
        self.events: deque[dict[str, Any]] = deque(maxlen=_KEPT)
        self.calls: Counter[str] = Counter()

    def note(self, event: str, **details: Any) -> None:
        """Add an event; `at` is time.time()."""
        self.events.append({"at": time.time(), "event": event, **details})

    def as_json(self) -> dict[str, Any]:
        """The answer of GET /sim/events."""
        return {"events": list(self.events), "calls": dict(self.calls)}
