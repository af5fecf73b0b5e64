"""The operator as users run it: `lora-operator run` in a process of its own, with its log in a file."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

from e2e.controlplane.processes import free_ports
from e2e.world.forked import ForkedCommand, die_with_parent
from e2e.world.rest import PATIENCE_SECONDS


class OperatorProcess:
    """One run of the operator. It ends with this process, whatever happens, unless it is `detached`."""

    def __init__(
        self,
        kubeconfig: Path,
        adapter_root: Path,
        log: Path,
        arguments: Sequence[str] = (),
        *,
        detached: bool = False,
        forked: bool = False,
        identity: str = "operator",
    ) -> None:
        """`identity` is what would be the pod's name: a restart of the same is the next container of that pod.

        `forked` saves the second that an interpreter of its own takes to start; one that is detached has its own.
        """
        self.log = log
        self.health_port, self.metrics_port, self.router_port = free_ports(3)
        given = [
            "run", "--kubeconfig", str(kubeconfig), "--adapter-root", str(adapter_root), "--host", "127.0.0.1",
            "--health-port", str(self.health_port), "--metrics-port", str(self.metrics_port),
            "--router-port", str(self.router_port), *arguments,
        ]  # fmt: skip
        environment = {**os.environ, "POD_NAME": identity, "POD_NAMESPACE": "lora-operator-system"}
        self.process: ForkedCommand | subprocess.Popen[bytes]
        if forked and not detached:
            self.process = ForkedCommand(given, environment=environment, log=log)
            return
        with log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "lora_operator.cli.main", *given],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                # an interrupt on the terminal is for the owner, who ends everything in order
                start_new_session=True,
                preexec_fn=None if detached else die_with_parent,
            )

    def wait_ready(self, timeout: float = PATIENCE_SECONDS) -> None:
        """Until /readyz answers 200.

        Raises:
            AssertionError: the process ended, or it took too long; the message has the end of the log.
        """
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise AssertionError(f"the operator ended with {self.process.returncode}:\n{self.tail()}")
            try:
                if self.fetch("/readyz").startswith("ok"):
                    return
            except (OSError, urllib.error.URLError):
                pass
            time.sleep(0.02)
        raise AssertionError(f"the operator was not ready after {timeout:g} s:\n{self.tail()}")

    def fetch(self, path: str) -> str:
        """GET from the health port (or the metrics port for /metrics)."""
        port = self.metrics_port if path == "/metrics" else self.health_port
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=30) as answer:
            return str(answer.read().decode())

    def stop(self) -> int:
        """As the kubelet does it: SIGTERM, and SIGKILL after the grace period. Returns the exit status."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
        return self.process.wait()

    def kill(self) -> None:
        """At once, in the middle of whatever it is doing."""
        self.process.kill()
        self.process.wait()

    def tail(self, lines: int = 40) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
