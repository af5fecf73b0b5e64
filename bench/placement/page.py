"""Puts measured figures into the page for people, between two marks, so that text and figures never drift apart."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench.figures import Figure
from bench.placement.tables import Rows

BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"


def refresh(page: Path, figures: Sequence[Figure], tables: Sequence[tuple[str, Rows]], measured_on: str) -> None:
    """Write the table of goals and the other tables into the page.

    Raises ValueError where the page does not have both marks, once and in order.
    """
    text = page.read_text()
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page} has no place for figures: put {BEGIN} and {END} on lines of their own")
    parts = [measured_on, _markdown(goals(figures)), *_notes(figures)]
    for title, rows in tables:
        heading, _, legend = title.partition(": ")
        parts += [f"### {heading[0].upper()}{heading[1:]}", *([f"{legend}."] if legend else []), _markdown(rows)]
    page.write_text(f"{before}{BEGIN}\n" + "\n\n".join(parts) + f"\n{END}{after}")


def goals(figures: Sequence[Figure]) -> Rows:
    """The table of goals, met or not."""
    rows: Rows = [("figure", "measured: all, or min / p50 / p99 / max", "goal", "met", "best baseline (unplaced)")]
    met = {True: "yes", False: "**no**", None: ""}
    rows += [(figure.name, figure.shown, figure.goal, met[figure.met], figure.peers) for figure in figures]
    return rows


def _notes(figures: Sequence[Figure]) -> list[str]:
    notes = [f"- {figure.name}: {figure.note}" for figure in figures if figure.note]
    return ["\n".join(notes)] if notes else []


def _markdown(rows: Rows) -> str:
    head, *body = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    lines = [head, ["---"] * len(head), *body]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
