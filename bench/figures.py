"""A figure with its goal and what others reach: printed as a table, kept as JSON lines."""

from __future__ import annotations

import json
import platform
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

RESULTS = Path(__file__).resolve().parent / "results"


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table. `values` are all runs, in `unit`."""

    name: str
    values: tuple[float, ...]
    unit: str
    goal: str
    peers: str = ""
    met: bool | None = None
    note: str = ""

    @property
    def shown(self) -> str:
        """`min / p50 / p99 / max`, or the one value."""
        if not self.values:
            return "never"
        if len(self.values) == 1:
            return f"{self.values[0]:.4g} {self.unit}"
        parts = (min(self.values), percentile(self.values, 50), percentile(self.values, 99), max(self.values))
        return " / ".join(f"{part:.3g}" for part in parts) + f" {self.unit}"


def percentile(values: Sequence[float], percent: float) -> float:
    """Nearest rank, so that p99 of few runs is the largest."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def print_table(figures: Sequence[Figure], peers: str = "two peers (Go)") -> None:
    """As a table for people; several runs as min / p50 / p99 / max. `peers` heads the last column."""
    rows = [("figure", "runs", "measured", "goal", "met", peers)]
    for figure in figures:
        met = {True: "yes", False: "NO", None: ""}[figure.met]
        rows.append((figure.name, str(len(figure.values)), figure.shown, figure.goal, met, figure.peers))
    print_rows(rows)
    for figure in figures:
        if figure.note:
            print(f"  {figure.name}: {figure.note}")


def print_rows(rows: Sequence[Sequence[str]]) -> None:
    """In columns; the first row is the head."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for number, row in enumerate(rows):
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
        if number == 0:
            print("  ".join("-" * width for width in widths))


def keep(figures: Sequence[Figure]) -> Path:
    """Append to `bench/results/operator.jsonl`."""
    lines = []
    for figure in figures:
        line = asdict(figure)
        if figure.values:
            line["p50"] = statistics.median(figure.values)
        lines.append(line)
    return append("operator.jsonl", lines)


def append(name: str, lines: Iterable[Mapping[str, object]]) -> Path:
    """Append JSON lines to a file in `bench/results`, each with the time and what it ran on."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / name
    at = {"at": datetime.now(UTC).isoformat(timespec="seconds")}
    machine = {"machine": platform.machine(), "python": platform.python_version(), "system": platform.system()}
    with path.open("a") as file:
        for line in lines:
            file.write(json.dumps(at | dict(line) | machine) + "\n")
    return path
