"""`python -m bench.placement`: measures, prints the tables, keeps JSON lines and plots in `bench/results`."""

from __future__ import annotations

import argparse
import platform
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from bench.figures import RESULTS, append, print_rows, print_table
from bench.placement import arrivals, churn, cold, events, oversubscribed, quiet, special, timings
from bench.placement.contenders import contenders
from bench.placement.goals import figures
from bench.placement.page import refresh
from bench.placement.plots import draw
from bench.placement.records import Record
from bench.placement.tables import tables

SECTIONS = ("cold", "oversubscribed", "arrivals", "quiet", "churn", "timings", "events", "special")


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.placement",
        description="Measures the placement library next to baselines and bounds, all on the same generated inputs.",
    )
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"which (default: all): {', '.join(SECTIONS)}")
    parser.add_argument("--quick", action="store_true", help="fewer and smaller fleets: less than a minute")
    parser.add_argument("--plots", type=Path, default=RESULTS, help="where plots go (default: bench/results)")
    parser.add_argument("--page", type=Path, help="put the tables into this page (docs/placement.md)")
    parsed = parser.parse_args()
    unknown = sorted(set(parsed.sections) - set(SECTIONS))
    if unknown:
        parser.error(f"no section is called {', '.join(unknown)}; there are: {', '.join(SECTIONS)}")
    records: list[Record] = []
    for name in parsed.sections or SECTIONS:
        started = time.monotonic()
        print(f"[{name}] …", file=sys.stderr, flush=True)
        records += _measure(name, parsed.quick)
        print(f"[{name}] {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    kept = append("placement.jsonl", records)
    reached = figures(records)
    print_table(reached, peers="best baseline (replicas it leaves unplaced)")
    shown = list(tables(records))
    for title, rows in shown:
        print(f"\n{title}")
        print_rows(rows)
    print(f"\nkept in {kept}")
    if parsed.page:
        refresh(parsed.page, reached, shown, _measured_on())
    print("drawn: " + ", ".join(str(path) for path in draw(records, parsed.plots)))
    missed = [figure.name for figure in reached if figure.met is False]
    print(f"goals missed: {'; '.join(missed) or 'none'}")
    return 0


def _measured_on() -> str:
    """One line that says what the figures are of."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"Measured at commit `{commit.stdout.strip() or 'unknown'}` with {python} on {platform.machine()}, one core."


def _measure(name: str, quick: bool) -> Iterable[Record]:
    methods = contenders()
    match name:
        case "cold":
            return cold.measure(methods, quick)
        case "oversubscribed":
            return oversubscribed.measure(methods, quick)
        case "arrivals":
            return arrivals.measure(methods, quick)
        case "quiet":
            return quiet.measure(methods, quick)
        case "churn":
            return churn.measure(methods, quick)
        case "events":
            return events.measure(quick)
        case "special":
            return special.measure(quick)
        case _:
            return timings.measure(quick)


if __name__ == "__main__":
    sys.exit(main())
