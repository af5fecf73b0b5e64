"""Does something and looks on until it had its effect, telling every change with the time at which it was seen."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from e2e.demo.changes import changes
from e2e.demo.errors import NotAsExpected
from e2e.demo.fleet import Fleet
from e2e.demo.screen import Screen
from e2e.demo.table import table

STILL_SECONDS = 15.0


class Watching:
    """`read` looks at the fleet, `check` raises if a part of the system has ended."""

    def __init__(
        self,
        read: Callable[[], Fleet],
        check: Callable[[], None],
        screen: Screen,
        *,
        patience_seconds: float,
        look_seconds: float,
    ) -> None:
        self._read = read
        self._check = check
        self._screen = screen
        self._patience_seconds = patience_seconds
        self._look_seconds = look_seconds

    def span(self, seconds: float) -> str:
        """In words, as exact as the looks are."""
        return f"{seconds:.2f} s" if seconds > 0 else f"less than {2 * self._look_seconds:g} s"

    def look(self) -> Fleet:
        return self._read()

    def show(self) -> Fleet:
        """Print the table as it is now."""
        fleet = self._read()
        self._screen.table(table(fleet))
        return fleet

    def until(
        self,
        expected: str,
        *moments: Callable[[Fleet], bool],
        act: Callable[[], object] = lambda: None,
        quiet: bool = False,
    ) -> tuple[Fleet, list[float]]:
        """Do `act` and look until all `moments` have come, one after the other, and the last is so after `act`.

        Returns the fleet at the end, and for each moment the seconds since the beginning, to about a look's length.

        Raises:
            NotAsExpected: they had not come in time; the message says what was `expected`.
        """
        before = self._read()
        started = said = time.monotonic()
        action = _Action(act)
        action.start()
        reached: list[float] = []
        while True:
            self._check()
            acted = not action.is_alive()
            action.check()
            fleet = self._read()
            seconds = time.monotonic() - started
            for line in [] if quiet else changes(before, fleet):
                self._screen.happened(seconds, line)
                said = time.monotonic()
            while len(reached) < len(moments) and moments[len(reached)](fleet):
                reached.append(seconds)
            if acted and len(reached) == len(moments):
                if moments[-1](fleet):
                    self._finish(fleet, quiet)
                    return fleet, reached
                reached.pop()  # it was so only before the action
            if seconds > self._patience_seconds:
                self._finish(fleet, quiet)
                raise NotAsExpected(f"after {seconds:.0f} s it is still not so that {expected}")
            if time.monotonic() - said > STILL_SECONDS and not self._screen.terminal:
                self._screen.happened(seconds, f"waiting until {expected}")
                said = time.monotonic()
            if not quiet:
                self._screen.draw(table(fleet))
            before = fleet
            time.sleep(self._look_seconds)

    def _finish(self, fleet: Fleet, quiet: bool) -> None:
        if not quiet:
            self._screen.table(table(fleet))


class _Action(threading.Thread):
    """Runs beside the looking, which must not miss what happens before kubectl has returned."""

    def __init__(self, act: Callable[[], object]) -> None:
        super().__init__(name="action", daemon=True)
        self._act = act
        self._error: BaseException | None = None

    def run(self) -> None:
        try:
            self._act()
        except BaseException as error:
            self._error = error

    def check(self) -> None:
        if self._error is not None:
            raise self._error
