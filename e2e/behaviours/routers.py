"""A router of its own for tests: `lora-operator router` as a process under an account that is given."""

from __future__ import annotations

import os
import signal
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from e2e.controlplane.processes import free_ports
from e2e.world import World
from e2e.world.forked import ForkedCommand
from e2e.world.world import SYSTEM_NAMESPACE


@contextmanager
def a_router(world: World, kubeconfig: Path, *more: str) -> Iterator[str]:
    """From its start on, whether it is ready or not; its URL. It logs to router.log in the world's directory."""
    port = free_ports(1)[0]
    given = ["router", "--kubeconfig", str(kubeconfig), "--host", "127.0.0.1", "--log-format", "console", *more]
    environment = {**os.environ, "POD_NAMESPACE": SYSTEM_NAMESPACE}
    log = world.directory / "router.log"
    process = ForkedCommand([*given, "--port", str(port)], environment=environment, log=log)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)


def ready(url: str) -> bool:
    """Whether the router there says that it is."""
    try:
        with urllib.request.urlopen(f"{url}/readyz", timeout=5):
            return True
    except OSError:
        return False
