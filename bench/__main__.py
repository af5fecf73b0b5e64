"""`python -m bench`: runs the scenarios (all, or those named) and prints their figures."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from bench.figures import Figure, keep, print_table
from bench.scenarios import SCENARIOS
from e2e.controlplane import ControlPlane
from e2e.world import World


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measures the operator on this machine: real API server, simulated engines whose load takes 10 ms.",
        epilog="Scenarios: " + "; ".join(f"{name}: {scenario.__doc__}" for name, scenario in SCENARIOS.items()),
    )
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help="which (default: all)")
    parser.add_argument("--runs", type=int, default=30, help="repetitions of what is repeated (default: 30)")
    parser.add_argument("--quiet-seconds", type=int, default=180, help="length of the quiet phase (default: 180)")
    parsed = parser.parse_args()
    unknown = sorted(set(parsed.scenarios) - set(SCENARIOS))
    if unknown:
        parser.error(f"no scenario is called {', '.join(unknown)}; there are: {', '.join(SCENARIOS)}")
    figures: list[Figure] = []
    directory = Path(tempfile.mkdtemp(prefix="lora-operator-bench-"))
    with ControlPlane.start(directory / "controlplane") as plane:
        World.install(plane)
        for number, name in enumerate(parsed.scenarios or SCENARIOS):
            started = time.monotonic()
            print(f"[{name}] …", file=sys.stderr, flush=True)
            namespace = f"bench-{number}"
            plane.create_namespace(namespace)
            done = SCENARIOS[name](plane, directory / name, namespace, parsed.runs, parsed.quiet_seconds)
            figures += done
            print(f"[{name}] {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
            plane.kubectl("delete", "namespace", namespace, "--wait=false")
    print_table(figures)
    print(f"\nkept in {keep(figures)}; logs in {directory}")
    return 0 if all(figure.met is not False for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
