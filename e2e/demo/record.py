"""What a demo that was left running consists of, kept in a file so that `down` finds and ends all of it."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import psutil

from e2e.controlplane.plane import run_kubectl
from e2e.controlplane.state import Server
from e2e.demo.borrowed import remove_adapters, remove_namespace, remove_nodes

FILE = "running.json"
GRACE_SECONDS = 15.0
LOOK_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Record:
    """The processes by name. `borrowed`: the cluster is one that the user had before."""

    kubeconfig: str
    kubectl: str
    processes: Mapping[str, Server]
    borrowed: bool = False

    def running(self) -> list[str]:
        return [name for name, server in self.processes.items() if server.find()]

    def end(self, pods: Path) -> None:
        """End everything in order, and what is left of containers under `pods`. All has ended when this returns."""
        kubectl = partial(run_kubectl, Path(self.kubectl), Path(self.kubeconfig))
        borrowed = self.borrowed and Path(self.kubeconfig).exists()
        containers = _containers(pods) if "pods" in self.running() else []
        if borrowed:
            remove_adapters(kubectl)
        self._stop("operator")
        if borrowed:
            remove_namespace(kubectl)
        self._stop("pods")
        if borrowed:
            remove_nodes(kubectl)
        # the control plane's data goes with it
        _end(list(self.processes.values()), signal.SIGKILL)
        _end(containers, signal.SIGKILL)

    def _stop(self, name: str) -> None:
        """In order: it has something to put away."""
        if server := self.processes.get(name):
            _end([server], signal.SIGTERM)


def _end(servers: Sequence[Server], number: signal.Signals) -> None:
    """Send the signal and wait; who does not end in time is killed, with all that it started."""
    for server in servers:
        if process := server.find():
            with suppress(psutil.NoSuchProcess):
                process.send_signal(number)
    deadline = time.monotonic() + GRACE_SECONDS
    while any(server.find() for server in servers) and time.monotonic() < deadline:
        time.sleep(LOOK_SECONDS)
    for server in servers:
        if server.find():
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(server.pid, signal.SIGKILL)


def server_of(pid: int) -> Server:
    return Server(pid, psutil.Process(pid).create_time())


def load(directory: Path) -> Record | None:
    """What was left running in `directory`, or None."""
    try:
        data = json.loads((directory / FILE).read_text())
    except (FileNotFoundError, NotADirectoryError):
        return None
    processes = {name: Server(**server) for name, server in data["processes"].items()}
    return Record(data["kubeconfig"], data["kubectl"], processes, data["borrowed"])


def save(directory: Path, record: Record) -> None:
    part = (directory / FILE).with_suffix(".part")
    part.write_text(json.dumps(asdict(record), indent=1))
    part.replace(directory / FILE)


def forget(directory: Path) -> None:
    (directory / FILE).unlink(missing_ok=True)


def _containers(pods: Path) -> list[Server]:
    found = []
    for file in pods.glob("pods/*/*.pid"):
        with suppress(psutil.NoSuchProcess, ValueError, OSError):
            found.append(server_of(int(file.read_text())))
    return found
