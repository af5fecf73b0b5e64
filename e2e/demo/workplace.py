"""The folder of one demo: made or emptied at the start, and held so that two demos do not share it."""

from __future__ import annotations

import fcntl
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from e2e.demo import record
from e2e.demo.errors import CannotStart

MARK = "lora-operator-demo.lock"
PORTS = range(8000, 8100)
# any address of 127.0.0.0/8 that nobody uses: what cannot be bound there is taken on all addresses
PROBE_ADDRESS = "127.254.254.254"


@contextmanager
def workplace(directory: Path) -> Iterator[Path]:
    """Hold `directory`, empty but for the mark.

    Raises:
        CannotStart: it cannot be made or emptied, or another demo has it.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if not (directory / MARK).exists() and any(directory.iterdir()):
            raise CannotStart(f"{directory} is not empty and was not made by a demo; give another folder: --dir FOLDER")
        lock = (directory / MARK).open("w")
    except OSError as error:
        raise CannotStart(f"{directory} cannot be used ({error}); give another folder: --dir FOLDER") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CannotStart(
                f"another demo is at work in {directory}; wait for its end, or give another folder: --dir FOLDER"
            ) from None
        left = record.load(directory)
        if left is not None and left.running():
            raise CannotStart(
                f"a demo was left running in {directory} ({', '.join(left.running())}). "
                f"Use it: export KUBECONFIG={left.kubeconfig}. End it: make demo-down"
            )
        for item in directory.iterdir():
            if item.name != MARK:
                shutil.rmtree(item) if item.is_dir() else item.unlink()
        yield directory


def engine_port(wanted: int | None) -> int:
    """The port that all engines listen on, each on its own address; without a wish the first that is free.

    Raises:
        CannotStart: another program has it on all addresses.
    """
    if wanted is None:
        return next((port for port in PORTS if _free(port)), PORTS[0])
    if not 0 < wanted < 65536:
        raise CannotStart(f"--port {wanted} is no port; give a number between 1 and 65535")
    if not _free(wanted):
        raise CannotStart(
            f"port {wanted} is taken: another program listens there on all addresses of this machine, or only "
            "an administrator may use it. End that program, or choose another port: --port 8001"
        )
    return wanted


def _free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((PROBE_ADDRESS, port))
            return True
        except OSError:
            return False
