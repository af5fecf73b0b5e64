"""`python -m bench.affinity`: measures, prints the tables, keeps JSON lines in `bench/results`."""

from __future__ import annotations

import argparse
import sys

from bench.affinity.measure import FULL, QUICK, figures, measure, rows
from bench.figures import append, print_rows, print_table


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.affinity",
        description="Plays adapters on demand through the planner and the cache, in virtual time: how often what comes "
        "back finds its files.",
    )
    parser.add_argument("--quick", action="store_true", help="one trace on a quarter of the fleet")
    records = list(measure(QUICK if parser.parse_args().quick else FULL))
    reached = figures(records)
    print_table(reached, peers="others")
    print()
    print_rows(rows(records))
    print(f"\nkept in {append('affinity.jsonl', records)}")
    return 0 if all(figure.met is not False for figure in reached) else 1


if __name__ == "__main__":
    sys.exit(main())
