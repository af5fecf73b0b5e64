"""Starts the processes of one cluster, with the marks by which all are found again."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from e2e.cluster.layout import CLUSTER_MARK, NUMBER_MARK, PART_MARK, Layout
from e2e.controlplane.processes import Launcher

END_SECONDS = 60.0


class Parts:
    """What one process has started of a cluster. It ends with that process, unless it is `detached`."""

    def __init__(self, layout: Layout, *, detached: bool) -> None:
        self._layout = layout
        self._launcher = Launcher(detached=detached)
        self._started: list[subprocess.Popen[bytes]] = []

    def start(
        self, part: str, command: Sequence[str | Path], log: Path, extra: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """Start the part; `extra` are further environment variables."""
        marks = {
            CLUSTER_MARK: str(self._layout.directory),
            NUMBER_MARK: str(self._layout.place.number),
            PART_MARK: part,
        }
        process = self._launcher.start(command, log, {**marks, **(extra or {})})
        self._started.append(process)
        return process

    def forget(self) -> None:
        """Leave them running, for whoever ends the cluster."""
        for process in self._started:
            process.returncode = 0  # nobody here waits for it
        self._launcher.close()

    def close(self) -> None:
        """Take note of the ends of all, once they were ended."""
        for process in self._started:
            process.wait(END_SECONDS)
        self._launcher.close()
