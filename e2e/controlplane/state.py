"""What `up` leaves behind so that `down`, `env` and `status` find the servers again."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from e2e.controlplane.plane import ControlPlane


@dataclass(frozen=True, slots=True)
class Server:
    """A process, told apart from a later one with the same number by the time of its start."""

    pid: int
    created: float

    def find(self) -> psutil.Process | None:
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.created) < 1.0
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.NoSuchProcess:
            return None


@dataclass(frozen=True, slots=True)
class State:
    """One plane that runs by itself."""

    kubeconfig: str
    kubectl: str
    url: str
    servers: dict[str, Server]

    @classmethod
    def of(cls, plane: ControlPlane) -> State:
        servers = {
            name: Server(process.pid, psutil.Process(process.pid).create_time())
            for name, process in plane.processes.items()
        }
        return cls(str(plane.kubeconfig), str(plane.kubectl_path), plane.url, servers)

    def running(self) -> list[str]:
        return [name for name, server in self.servers.items() if server.find()]

    def end(self) -> None:
        """End every server that still runs, and wait for it."""
        found = [process for server in self.servers.values() if (process := server.find())]
        for process in found:
            process.kill()
        psutil.wait_procs(found, timeout=10)


def state_file(directory: Path) -> Path:
    return directory / "state.json"


def load_state(directory: Path) -> State | None:
    """The state of the plane in `directory`, or None where none was started."""
    try:
        data = json.loads(state_file(directory).read_text())
        data["servers"] = {name: Server(**server) for name, server in data["servers"].items()}
        return State(**data)
    except (FileNotFoundError, NotADirectoryError):
        return None


def save_state(directory: Path, state: State) -> None:
    part = state_file(directory).with_suffix(".part")
    part.write_text(json.dumps(asdict(state), indent=1))
    part.replace(state_file(directory))
