"""`python -m bench.placement`: measures, prints the tables, keeps JSON lines and plots in `bench/results`."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterable

from bench.figures import append, print_table
from bench.placement import churn, cold, oversubscribed, quiet, timings
from bench.placement.contenders import contenders
from bench.placement.goals import figures
from bench.placement.records import Record

SECTIONS = ("cold", "oversubscribed", "quiet", "churn", "timings")


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.placement",
        description="Measures the placement library next to baselines and bounds, all on the same generated inputs.",
    )
    parser.add_argument("sections", nargs="*", metavar="SECTION", help=f"which (default: all): {', '.join(SECTIONS)}")
    parser.add_argument("--quick", action="store_true", help="fewer and smaller fleets: less than a minute")
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
    reached = figures(records)
    print_table(reached, peers="best baseline")
    print(f"\nkept in {append('placement.jsonl', records)}")
    return 0 if all(figure.met is not False for figure in reached) else 1


def _measure(name: str, quick: bool) -> Iterable[Record]:
    methods = contenders()
    match name:
        case "cold":
            return cold.measure(methods, quick)
        case "oversubscribed":
            return oversubscribed.measure(methods, quick)
        case "quiet":
            return quiet.measure(methods, quick)
        case "churn":
            return churn.measure(methods, quick)
        case _:
            return timings.measure(quick)


if __name__ == "__main__":
    sys.exit(main())
