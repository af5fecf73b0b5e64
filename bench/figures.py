"""A figure with its goal and what others reach: printed as a table, kept as JSON lines."""

from __future__ import annotations

import json
import platform
import statistics
from collections.abc import Sequence
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


def print_table(figures: Sequence[Figure]) -> None:
    """As a table for people; several runs as min / p50 / p99 / max."""
    rows = [("figure", "runs", "measured", "goal", "met", "two peers (Go)")]
    for figure in figures:
        met = {True: "yes", False: "NO", None: ""}[figure.met]
        rows.append((figure.name, str(len(figure.values)), figure.shown, figure.goal, met, figure.peers))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for number, row in enumerate(rows):
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
        if number == 0:
            print("  ".join("-" * width for width in widths))
    for figure in figures:
        if figure.note:
            print(f"  {figure.name}: {figure.note}")


def keep(figures: Sequence[Figure]) -> Path:
    """Append to `bench/results/operator.jsonl`."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / "operator.jsonl"
    machine = {"machine": platform.machine(), "python": platform.python_version(), "system": platform.system()}
    with path.open("a") as file:
        for figure in figures:
            line = {"at": datetime.now(UTC).isoformat(timespec="seconds")} | asdict(figure) | machine
            if figure.values:
                line["p50"] = statistics.median(figure.values)
            file.write(json.dumps(line) + "\n")
    return path
