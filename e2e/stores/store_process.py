"""One store's server as a process on a free port of 127.0.0.1 that ends, at the latest, when its owner does."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from urllib.request import urlopen

from e2e.controlplane.processes import Launcher, end, free_ports, tail

START_SECONDS = 60.0
_REQUEST = re.compile(r'"(?:\x1b\[\d+m)*([A-Z]+) (/\S*) HTTP/1')  # as access logs have it; some are coloured


class StoreError(Exception):
    """The store's server could not be started; the message says why."""


class StoreProcess:
    """`command` gives the command line for a port. The server takes connections once the constructor returns, and says
    200 at the path `ready`, where it has one."""

    def __init__(
        self, name: str, command: Callable[[int], Sequence[str | Path]], log: Path, extra: Mapping[str, str],
        ready: str = "",
    ) -> None:  # fmt: skip
        (self.port,) = free_ports(1)
        self._log, self._ready = log, ready
        self._launcher = Launcher(detached=False)
        self._process = self._launcher.start(command(self.port), log, extra)
        deadline = time.monotonic() + START_SECONDS
        while not self._accepts():
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                raise StoreError(f"{name} did not start on port {self.port}; the end of {log}:\n{tail(log)}")
            time.sleep(0.05)  # a port tells nobody that it is open now

    def requests(self, place: str) -> list[str]:
        """The requests for `place` and what is below it so far, like 'GET /place/key?query', from the server's log."""
        found = (_REQUEST.search(line) for line in self._log.read_text(errors="replace").splitlines())
        return [
            f"{match[1]} {match[2]}"
            for match in found
            if match and f"{match[2].split('?')[0]}/".startswith(f"{place}/")
        ]

    def stop(self) -> None:
        """End the server; it has ended when this returns."""
        end(self._process)
        self._launcher.close()

    def _accepts(self) -> bool:
        try:
            if self._ready:
                urlopen(f"http://127.0.0.1:{self.port}{self._ready}", timeout=5.0).close()
            else:
                socket.create_connection(("127.0.0.1", self.port), timeout=1.0).close()
        except OSError:  # and what else than 200 is answered
            return False
        return True
