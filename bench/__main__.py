"""`python -m bench`: runs the scenarios (all, or those named) and prints their figures."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.figures import Figure, keep, print_table
from bench.scenarios import ALONE, SCENARIOS
from e2e.controlplane import ControlPlane
from e2e.world import World


def _with_control_plane(names: list[str], directory: Path, runs: int, quiet_seconds: int) -> list[Figure]:
    figures: list[Figure] = []
    with ControlPlane.start(directory / "controlplane") as plane:
        World.install(plane)
        for number, name in enumerate(names):
            namespace = f"bench-{number}"
            plane.create_namespace(namespace)
            with _announced(name):
                figures += SCENARIOS[name](plane, directory / name, namespace, runs, quiet_seconds)
            plane.kubectl("delete", "namespace", namespace, "--wait=false")
    return figures


@contextmanager
def _announced(name: str) -> Iterator[None]:
    started = time.monotonic()
    print(f"[{name}] …", file=sys.stderr, flush=True)
    yield
    print(f"[{name}] {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measures the operator on this machine: real API server, simulated engines whose load takes 10 ms.",
        epilog="Scenarios: "
        + "; ".join(f"{name}: {scenario.__doc__}" for name, scenario in (SCENARIOS | ALONE).items()),
    )
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help="which (default: all)")
    parser.add_argument("--runs", type=int, default=30, help="repetitions of what is repeated (default: 30)")
    parser.add_argument("--quiet-seconds", type=int, default=180, help="length of the quiet phase (default: 180)")
    parsed = parser.parse_args()
    known = [*ALONE, *SCENARIOS]
    unknown = sorted(set(parsed.scenarios) - set(known))
    if unknown:
        parser.error(f"no scenario is called {', '.join(unknown)}; there are: {', '.join(known)}")
    figures: list[Figure] = []
    directory = Path(tempfile.mkdtemp(prefix="lora-operator-bench-"))
    wanted = parsed.scenarios or known
    for name in (name for name in wanted if name in ALONE):
        with _announced(name):
            figures += ALONE[name](directory / name, parsed.runs)
    on_a_plane = [name for name in wanted if name in SCENARIOS]
    if on_a_plane:
        figures += _with_control_plane(on_a_plane, directory, parsed.runs, parsed.quiet_seconds)
    print_table(figures)
    print(f"\nkept in {keep(figures)}; logs in {directory}")
    return 0 if all(figure.met is not False for figure in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
