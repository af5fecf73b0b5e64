"""The states of an engine as probes find it."""

from __future__ import annotations

from enum import StrEnum


class EngineState(StrEnum):
    """What is known about an engine."""

    UNKNOWN = "Unknown"  # no probe has said anything yet
    STARTING = "Starting"  # the container runs, the engine refuses connections
    UP = "Up"
    SUSPECT = "Suspect"  # it was up and has missed probes, fewer than the threshold: it keeps what it has
    DOWN = "Down"  # it has missed too many, or its container does not run
