"""Prints: tables in the manner of kubectl, with colours on a terminal only, or the same as JSON or YAML."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import IO, Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

WIDE = 10_000  # where nobody looks at it, nothing is wrapped
GOOD, WORRYING, BAD, FAINT = "green", "yellow", "red", "dim"
BAR_CELLS = 10


class Screen:
    """Where a command prints to, in one of the formats."""

    def __init__(self, output: str = "table", stream: IO[str] | None = None, width: int | None = None) -> None:
        self.output = output
        self._stream = stream or sys.stdout
        self.console = Console(
            file=self._stream,
            color_system="auto" if self._stream.isatty() and not os.environ.get("NO_COLOR") else None,
            width=width if width is not None else None if self._stream.isatty() else WIDE,
            markup=False,
            highlight=False,
            emoji=False,
        )

    @property
    def wide(self) -> bool:
        return self.output == "wide"

    def show(self, document: Any, draw: Callable[[], None]) -> None:
        """The document for programs, or what `draw` prints for people."""
        if self.output == "json":
            self._stream.write(as_json(document))
        elif self.output == "yaml":
            self._stream.write(as_yaml(document))
        else:
            draw()

    def line(self, text: str = "", style: str = "") -> None:
        self._print(Text(clean(text), style))

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[str | Text]]) -> None:
        """One line for each row, a column as wide as its widest cell."""
        self._print(a_table(columns, rows))

    def _print(self, what: Table | Text) -> None:
        with self.console.capture() as printed:
            self.console.print(what, soft_wrap=isinstance(what, Text))
        text = printed.get()
        self._stream.write("\n".join(line.rstrip() for line in text.split("\n")))


def a_table(columns: Sequence[str], rows: Iterable[Sequence[str | Text]]) -> Table:
    """A table without lines, as kubectl prints it."""
    table = Table(box=None, padding=(0, 3, 0, 0), pad_edge=False, show_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(_cell(one) for one in row))
    return table


def _cell(content: str | Text) -> Text:
    if not isinstance(content, Text):
        return Text(clean(content))
    content.plain = clean(content.plain)  # as long as before, so that the colours stay where they are
    return content


def clean(text: str) -> str:
    """Without what would steer a terminal: names and messages come from others."""
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in text)


def bar(used: int, most: int) -> Text:
    """`██████▌···  13/20`, redder the fuller."""
    share = min(used / most, 1.0) if most > 0 else 1.0
    full = round(share * BAR_CELLS)
    style = BAD if share >= 0.95 else WORRYING if share >= 0.75 else GOOD
    return Text("█" * full, style) + Text("·" * (BAR_CELLS - full), FAINT)


def in_size(count_bytes: int) -> str:
    """`1.5Gi`, as Kubernetes writes amounts of memory."""
    size = float(count_bytes)
    for unit in ("", "Ki", "Mi", "Gi"):
        if size < 1024:
            return f"{size:.0f}{unit}" if not unit or size >= 10 else f"{size:.1f}{unit}"
        size /= 1024
    return f"{size:.1f}Ti"


def in_time(seconds: float) -> str:
    """`5s`, `3m`, `2h`, `4d`."""
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= 2 * length:
            return f"{int(seconds // length)}{unit}"
    return f"{max(int(seconds), 0)}s"


def as_json(document: Any) -> str:
    """With what would steer a terminal written as JSON escapes: it leaves most of that as it is."""
    text = json.dumps(document, indent=2, ensure_ascii=False)
    if not _is_shown_as_it_is(text):
        text = "".join(one if one == "\n" or one.isprintable() else json.dumps(one)[1:-1] for one in text)
    return text + "\n"


def as_yaml(document: Any, *, several: bool = False) -> str:
    """YAML in the order given; `several`: the documents of a list."""
    import yaml

    def written(**options: Any) -> str:
        options |= {"sort_keys": False, "default_flow_style": False}
        return str(yaml.safe_dump_all(document, **options) if several else yaml.safe_dump(document, **options))

    text = written(allow_unicode=True)
    return text if _is_shown_as_it_is(text) else written(allow_unicode=False)


def _is_shown_as_it_is(text: str) -> bool:
    return text.replace("\n", "").isprintable()
