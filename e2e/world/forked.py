"""Runs commands of lora-operator as processes of their own without the second that Python takes to import them.

One process imports them once and forks for each command (multiprocessing's forkserver): a command has its own process,
signals, exit status and log as ever, and starts in some hundredths of the processor time.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

IMPORTED = ["lora_operator.cli.main", "lora_operator.cli.run", "lora_operator.manager.operator"]


class ForkedCommand:
    """A running command, with those methods of `subprocess.Popen` that tests use. It ends with this process."""

    def __init__(self, arguments: Sequence[str], *, environment: Mapping[str, str], log: Path) -> None:
        """`arguments` are those of `lora-operator`; what it prints is appended to `log`."""
        log.touch()  # who waits for a line in it need not wait for the file
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(IMPORTED)
        self._process = context.Process(target=_run, args=(list(arguments), dict(environment), str(log)), daemon=True)
        self._process.start()
        self.pid = int(self._process.pid or 0)

    @property
    def returncode(self) -> int | None:
        """The exit status, or the negative number of the signal that ended it; None while it runs."""
        return self._process.exitcode

    def poll(self) -> int | None:
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """The exit status, once there is one.

        Raises:
            subprocess.TimeoutExpired: it still runs after this many seconds.
        """
        self._process.join(timeout)
        status = self.returncode
        if status is None:
            raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0.0)
        return status

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _run(arguments: list[str], environment: dict[str, str], log: str) -> None:
    die_with_parent()
    os.setsid()  # an interrupt on the terminal is for the owner, who ends everything in order
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)
    os.environ.clear()
    os.environ.update(environment)
    from lora_operator.cli.main import entry

    sys.argv = ["lora-operator", *arguments]
    entry()


def die_with_parent() -> None:
    """Have the kernel end this process when the thread that forked it ends."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
