"""What a demo that was left running consists of, kept in a file so that `down` finds and ends all of it."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from e2e.controlplane.state import Server

FILE = "running.json"
GRACE_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class Record:
    """Processes by name, in the order in which they are to be ended."""

    kubeconfig: str
    kubectl: str
    processes: Mapping[str, Server]

    def running(self) -> list[str]:
        return [name for name, server in self.processes.items() if server.find()]

    def end(self, pods: Path) -> None:
        """End everything in order, and what is left of containers under `pods`. All has ended when this returns."""
        containers = _containers(pods) if "pods" in self.running() else []
        for name, server in self.processes.items():
            if process := server.find():
                # operator and pod runner have something to put away; the control plane's data goes with it
                with suppress(psutil.NoSuchProcess):
                    process.terminate() if name in ("operator", "pods") else process.kill()
                _, alive = psutil.wait_procs([process], timeout=GRACE_SECONDS)
                for left in alive:
                    left.kill()
                psutil.wait_procs(alive, timeout=GRACE_SECONDS)
        for container in containers:
            if container.find():
                with suppress(ProcessLookupError):
                    os.killpg(container.pid, signal.SIGKILL)


def server_of(pid: int) -> Server:
    return Server(pid, psutil.Process(pid).create_time())


def load(directory: Path) -> Record | None:
    """What was left running in `directory`, or None."""
    try:
        data = json.loads((directory / FILE).read_text())
    except (FileNotFoundError, NotADirectoryError):
        return None
    processes = {name: Server(**server) for name, server in data["processes"].items()}
    return Record(data["kubeconfig"], data["kubectl"], processes)


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
