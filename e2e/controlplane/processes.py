"""Local server processes: started so that none outlives its owner, found free ports for, ended for sure."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

PR_SET_PDEATHSIG = 1
# below the range that the system takes for outgoing connections: a port that is free while its server is being
# restarted must not be taken by a client in the meantime
PORTS = range(20000, 32000)


def free_ports(count: int) -> list[int]:
    """That many different ports of 127.0.0.1 on which nobody listens.

    They are given out in turn, over all processes of this user: who is given one has long bound it when its turn is
    again.
    """
    found: list[int] = []
    with (Path(tempfile.gettempdir()) / f"lora-operator-ports-{os.getuid()}").open("a+") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        turn.seek(0)
        last = turn.read()
        index = int(last) if last.isdecimal() else 0
        for _ in PORTS:
            if len(found) == count:
                break
            index = (index + 1) % len(PORTS)
            with socket.socket() as candidate, contextlib.suppress(OSError):
                candidate.bind(("127.0.0.1", PORTS[index]))
                found.append(PORTS[index])
        turn.truncate(0)
        turn.write(str(index))
    return found


def die_with_parent() -> Callable[[], None] | None:
    """A `preexec_fn`: the kernel kills the child when the *thread* that started it ends. None where that is unknown."""
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None).prctl  # looked up here: between fork and exec as little as possible may happen
    parent = os.getpid()

    def arm() -> None:
        prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    return arm


class Launcher:
    """Starts processes whose output goes to files.

    Attached ones die with this process, however it ends. The kernel ties them to the thread that started them, so all
    are started in one thread that lives as long as the launcher. Detached ones stay.
    """

    def __init__(self, *, detached: bool) -> None:
        self._detached = detached
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="launcher")

    def start(
        self, command: Sequence[str | Path], log: Path, extra: Mapping[str, str] | None = None
    ) -> subprocess.Popen[bytes]:
        """`extra` are further environment variables."""
        return self._thread.submit(self._start, [str(word) for word in command], log, extra or {}).result()

    def _start(self, command: list[str], log: Path, extra: Mapping[str, str]) -> subprocess.Popen[bytes]:
        with log.open("ab") as sink:
            return subprocess.Popen(
                command,
                env={**os.environ, **extra},
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                # an interrupt on the terminal is for the owner, who ends its servers in the right order
                start_new_session=True,
                preexec_fn=None if self._detached else die_with_parent(),
            )

    def close(self) -> None:
        """Let go of the thread; attached processes that still run die."""
        self._thread.shutdown()


def end(process: subprocess.Popen[bytes], *, grace_seconds: float = 0.0) -> None:
    """End the process, with SIGTERM first if it has a grace period. It has ended when this returns."""
    if process.poll() is None and grace_seconds > 0:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(grace_seconds)
    if process.poll() is None:
        process.kill()
    process.wait()


def tail(log: Path, lines: int = 15) -> str:
    """The end of a log file, for a message about a server that has ended."""
    try:
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
    except OSError:
        return "(no log)"
