"""One module per group of figures. A scenario takes control plane, directory, namespace, runs and quiet time.

Those in ALONE need no control plane: they take directory and runs.
"""

from collections.abc import Callable
from pathlib import Path

from bench.figures import Figure
from bench.scenarios.agents import agents
from bench.scenarios.drift import drift
from bench.scenarios.envoy import envoy
from bench.scenarios.fetch import fetch
from bench.scenarios.fleet import fleet
from bench.scenarios.hang import hang
from bench.scenarios.library import library
from bench.scenarios.quiet import quiet
from bench.scenarios.ready import ready
from bench.scenarios.restart import restart
from bench.scenarios.router import router, staleness
from e2e.controlplane import ControlPlane

Scenario = Callable[[ControlPlane, Path, str, int, int], list[Figure]]

SCENARIOS: dict[str, Scenario] = {
    "ready": ready,
    "restart": restart,
    "drift": drift,
    "hang": hang,
    "quiet": quiet,
    "fleet": fleet,
    "agents": agents,
    "staleness": staleness,
}

ALONE: dict[str, Callable[[Path, int], list[Figure]]] = {
    "fetch": fetch,
    "router": router,
    "envoy": envoy,
    "library": library,
}
