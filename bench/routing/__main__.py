"""`python -m bench.routing`: measures, prints the tables, keeps JSON lines and a plot in `bench/results`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from bench.figures import RESULTS, append, print_rows, print_table
from bench.routing import measure, timings
from bench.routing.tables import draw, figures, tables


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.routing",
        description="Plays generated requests through simulated engines, sent where each routing policy says.",
    )
    parser.add_argument("--quick", action="store_true", help="shorter traces, one of each kind")
    parser.add_argument(
        "--plot", type=Path, default=RESULTS / "routing.png", help="(default: bench/results/routing.png)"
    )
    parsed = parser.parse_args()
    extent = measure.Extent(seconds=60.0, seeds=1) if parsed.quick else measure.Extent()
    records = [*measure.measure(extent), *timings.measure(5_000 if parsed.quick else 50_000)]
    reached = figures(records)
    print_table(reached, peers="others")
    for title, rows in tables(records):
        print(f"\n{title}")
        print_rows(rows)
    print(f"\nkept in {append('routing.jsonl', records)}; drawn: {draw(records, parsed.plot)}")
    return 0 if all(figure.met is not False for figure in reached) else 1


if __name__ == "__main__":
    sys.exit(main())
