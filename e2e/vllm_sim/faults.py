"""Faults that a test switches on and off while the engine runs.

A fault is JSON: `{"kind": …, "endpoint": …, "times": …, …}`. `endpoint` is one of load, unload, models, health,
version, metrics, completions, chat, ping, invocations, or "all" (everything but /sim); `times` is how many requests
it hits (null: all until cleared); `name` narrows load and unload to one adapter. The kinds:

- hang: no answer until the fault is cleared; then the request goes on as if nothing had been
- status: answer `status` (default 500) with the engine's error body and do nothing
- slow: wait `seconds`, then do it
- late: do it, then wait `seconds` (null: until cleared) before answering
- drop: cut the connection; `"after": true` does the work first
- crash: the process ends at once with `exit_code` (default 1); on "load" unless said otherwise
- forget_unload: unload answers success and the name stays
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

KINDS = ("hang", "status", "slow", "late", "drop", "crash", "forget_unload")
ENDPOINTS = ("load", "unload", "models", "health", "version", "metrics", "completions", "chat", "ping",
             "invocations", "other", "all")  # fmt: skip
_DEFAULT_ENDPOINT = {"crash": "load", "forget_unload": "unload"}


@dataclass(slots=True)
class Fault:
    """One fault that is switched on."""

    id: int
    kind: str
    endpoint: str
    times: int | None = None
    name: str | None = None
    status: int = 500
    seconds: float | None = None
    after: bool = False
    exit_code: int = 1
    hits: int = 0
    cleared: asyncio.Event = field(default_factory=asyncio.Event)

    def as_json(self) -> dict[str, Any]:
        """What GET /sim/faults shows."""
        shown = ("id", "kind", "endpoint", "times", "name", "status", "seconds", "after", "exit_code", "hits")
        return {name: getattr(self, name) for name in shown}

    async def wait(self) -> None:
        """Wait `seconds`, or until the fault is cleared where there are none."""
        if self.seconds is None:
            await self.cleared.wait()
            return
        try:
            async with asyncio.timeout(self.seconds):
                await self.cleared.wait()
        except TimeoutError:
            return


class Faults:
    """The faults of one engine."""

    def __init__(self) -> None:
        self._active: list[Fault] = []
        self._spent: list[Fault] = []  # used up, but requests may still hang on them
        self._next_id = 1

    def add(self, kind: str, endpoint: str | None = None, **options: Any) -> Fault:
        """Switch a fault on. Raises ValueError for a kind, endpoint or option that does not exist."""
        endpoint = endpoint or _DEFAULT_ENDPOINT.get(kind, "all")
        if kind not in KINDS:
            raise ValueError(f"no fault is called {kind!r}: use one of {', '.join(KINDS)}")
        if endpoint not in ENDPOINTS:
            raise ValueError(f"no endpoint is called {endpoint!r}: use one of {', '.join(ENDPOINTS)}")
        unknown = options.keys() - {"times", "name", "status", "seconds", "after", "exit_code"}
        if unknown:
            raise ValueError(f"a fault has no option {', '.join(sorted(unknown))}")
        if kind == "slow" and options.get("seconds") is None:
            raise ValueError("a slow fault needs seconds")
        fault = Fault(self._next_id, kind, endpoint, **options)
        self._next_id += 1
        self._active.append(fault)
        return fault

    def hit(self, endpoint: str, name: str | None) -> list[Fault]:
        """The faults that this request meets, each counted once, in the order they were switched on."""
        met = []
        for fault in list(self._active):
            if fault.endpoint not in ("all", endpoint) or (fault.name is not None and fault.name != name):
                continue
            fault.hits += 1
            met.append(fault)
            if fault.times is not None and fault.hits >= fault.times:
                self._active.remove(fault)
                self._spent.append(fault)
        return met

    def clear(self, fault_id: int | None = None) -> None:
        """Switch one fault off, or all; requests that hang on it go on."""
        for faults in (self._active, self._spent):
            for fault in [f for f in faults if fault_id in (None, f.id)]:
                faults.remove(fault)
                fault.cleared.set()

    def as_json(self) -> list[dict[str, Any]]:
        """All that are switched on."""
        return [fault.as_json() for fault in self._active]
