"""How much a cache may hold, and for how long."""

from __future__ import annotations

from dataclasses import dataclass

GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Limits:
    """`budget_bytes` None: no budget. `ttl_seconds` counts from the last use.

    What was asked for within the last `grace_seconds` is not removed: somebody is about to load it.
    """

    budget_bytes: int | None = 50 * GIB
    ttl_seconds: float = 7 * 24 * 3600.0
    grace_seconds: float = 120.0
