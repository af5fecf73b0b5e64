"""Everything that the demo prints. On a terminal the table is drawn again in place; elsewhere only lines are added."""

from __future__ import annotations

import shutil
import sys
import textwrap
from collections.abc import Sequence
from typing import TextIO

WIDTH = 110
INDENT = "  "


class Screen:
    """Writes to `stream`; `colours` and drawing in place only if that is a terminal."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._out = sys.stdout if stream is None else stream
        self.terminal = self._out.isatty()
        self._drawn: list[str] = []

    def title(self, text: str) -> None:
        self._line(f"\n{self._bold(text)}")

    def say(self, text: str) -> None:
        """A sentence or more, wrapped."""
        for line in textwrap.wrap(text, WIDTH - len(INDENT)):
            self._line(INDENT + line)

    def command(self, text: str) -> None:
        """What a user would type."""
        self._line(f"{INDENT}{self._paint('36', '$ ' + text)}")

    def output(self, text: str) -> None:
        """What a command printed, as it is."""
        for line in text.rstrip().splitlines():
            self._line(f"{INDENT}{line}")

    def happened(self, seconds: float, text: str) -> None:
        """Something changed, this long after the beginning."""
        self._line(f"{INDENT}{seconds:+8.2f} s  {text}")

    def good(self, text: str) -> None:
        self._line(f"{INDENT}{self._paint('32', '✓')} {text}")

    def bad(self, text: str) -> None:
        """In full, however long."""
        for line in text.splitlines():
            self._line(f"{self._paint('31', '✗')} {line}")

    def plain(self, text: str = "") -> None:
        self._line(text)

    def table(self, lines: Sequence[str]) -> None:
        """Leave a table where it is."""
        self.draw([])
        for line in lines:
            self._line(f"{INDENT}{INDENT}{line}")

    def draw(self, lines: Sequence[str]) -> None:
        """Show these lines below all others until something else is written. Terminals only."""
        if not self.terminal or list(lines) == self._drawn:
            return  # drawing the same again would only flicker
        self._wipe()
        columns = shutil.get_terminal_size().columns
        for line in lines:
            self._out.write(f"{INDENT}{INDENT}{line}"[: columns - 1] + "\n")
        self._drawn = list(lines)
        self._out.flush()

    def _line(self, text: str) -> None:
        self._wipe()
        self._out.write(f"{text}\n")
        self._out.flush()

    def _wipe(self) -> None:
        if self._drawn:
            self._out.write(f"\033[{len(self._drawn)}F\033[J")
            self._drawn = []

    def _bold(self, text: str) -> str:
        return self._paint("1", text)

    def _paint(self, code: str, text: str) -> str:
        return f"\033[{code}m{text}\033[0m" if self.terminal else text
