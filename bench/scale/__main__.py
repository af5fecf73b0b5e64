"""`python -m bench.scale`: the operator at the promised sizes, through a real API server."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path

from bench.figures import Figure, append, print_table
from bench.scale.measure import GOALS, Chosen, all_pods, size


def _size(text: str) -> tuple[int, int]:
    adapters, _, pods = text.partition("x")
    return int(adapters), int(pods)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.scale",
        description="Measures the operator as a process, with leader election, on simulated engines that one process "
        "serves, and whose load takes 10 ms.",
    )
    parser.add_argument(
        "sizes", nargs="*", type=_size, metavar="ADAPTERSxPODS",
        help="one replica of each adapter (default: 300x30 1000x100, and 100, 300, 500 on AllPods; 10000x1000 is long)",
    )  # fmt: skip
    parser.add_argument("--all-pods", type=int, nargs="*", metavar="ADAPTERS", help="so many, on every pod")
    parser.add_argument("--pods", type=int, default=20, help="for --all-pods (default: 20)")
    parser.add_argument("--timeout", type=float, default=300.0, help="seconds until all must be Ready (default: 300)")
    parser.add_argument("--quiet-seconds", type=float, default=20.0, help="length of the quiet phase (default: 20)")
    parser.add_argument("--argument", action="append", default=[], help="a further argument of the operator (repeat)")
    parser.add_argument("--directory", type=Path, help="for logs (default: a new one)")
    parsed = parser.parse_args()
    sizes, many = parsed.sizes, parsed.all_pods
    if not sizes and many is None:
        sizes, many = list(GOALS)[:2], [100, 300, 500]
    directory = parsed.directory or Path(tempfile.mkdtemp(prefix="lora-operator-scale-"))
    chosen = Chosen(parsed.timeout, parsed.quiet_seconds, tuple(parsed.argument))
    figures: list[Figure] = []
    for adapters, pods in sizes:
        print(f"[{adapters} x {pods}] …", file=sys.stderr, flush=True)
        figures += asyncio.run(size(directory / f"{adapters}x{pods}", adapters, pods, chosen))
    for adapters in many or ():
        print(f"[{adapters} under AllPods x {parsed.pods}] …", file=sys.stderr, flush=True)
        figures += asyncio.run(all_pods(directory / f"all-pods-{adapters}", adapters, parsed.pods, chosen))
    print_table(figures, peers="before")
    lines = [{"name": f.name, "value": f.values[0] if f.values else None, "unit": f.unit} for f in figures]
    print(f"\nkept in {append('scale.jsonl', lines)}; logs in {directory}")
    return 0 if all(figure.met is not False for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
