"""One store's server as a process on a free port of 127.0.0.1 that ends, at the latest, when its owner does."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from e2e.controlplane.processes import Launcher, end, free_ports, tail

START_SECONDS = 60.0


class StoreError(Exception):
    """The store's server could not be started; the message says why."""


class StoreProcess:
    """`command` gives the command line for a port. The server takes connections once the constructor returns."""

    def __init__(
        self, name: str, command: Callable[[int], Sequence[str | Path]], log: Path, extra: Mapping[str, str]
    ) -> None:
        (self.port,) = free_ports(1)
        self._launcher = Launcher(detached=False)
        self._process = self._launcher.start(command(self.port), log, extra)
        deadline = time.monotonic() + START_SECONDS
        while not self._accepts():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise StoreError(f"{name} did not start on port {self.port}; the end of {log}:\n{tail(log)}")
            time.sleep(0.05)  # a port tells nobody that it is open now

    @property
    def process(self) -> subprocess.Popen[bytes]:
        return self._process

    def stop(self) -> None:
        """End the server; it has ended when this returns."""
        end(self._process)
        self._launcher.close()

    def _accepts(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=1.0):
                return True
        except OSError:
            return False
