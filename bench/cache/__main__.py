"""`python -m bench.cache`: measures, prints the tables, keeps JSON lines and a plot in `bench/results`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from bench.cache.figures import Extent, figures, measure
from bench.cache.tables import draw, tables
from bench.figures import RESULTS, append, print_rows, print_table


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.cache",
        description="Plays generated traces through the cache's policies, next to a bound and to libcachesim.",
    )
    parser.add_argument("--quick", action="store_true", help="one short trace of each kind")
    parser.add_argument("--plot", type=Path, default=RESULTS / "cache.png", help="(default: bench/results/cache.png)")
    parsed = parser.parse_args()
    records = list(measure(Extent(asks=4_000, seeds=1) if parsed.quick else Extent()))
    reached = figures(records)
    print_table(reached, peers="others")
    for title, rows in tables(records):
        print(f"\n{title}")
        print_rows(rows)
    print(f"\nkept in {append('cache.jsonl', records)}; drawn: {draw(records, parsed.plot)}")
    return 0 if all(figure.met is not False for figure in reached) else 1


if __name__ == "__main__":
    sys.exit(main())
