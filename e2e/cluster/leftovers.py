"""Removes what clusters have left on this machine, in whatever state they were, and no cluster that runs elsewhere."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster.errors import ClusterError, UnfitMachineError
from e2e.cluster.marks import Marked, cgroups, interfaces, marked_processes, mounts_below

END_SECONDS = 60.0
POLL_SECONDS = 0.05
# of a cluster's folder; logs stay, so that one can see what went wrong
DATA = ("etcd", "nodes", "bin", "images", "pki", "kubeconfig", "kubeconfig.ca")


@dataclass(frozen=True, slots=True)
class Traces:
    """What is there of clusters."""

    processes: Sequence[Marked]
    interfaces: Sequence[str]
    cgroups: Sequence[Path]

    def __str__(self) -> str:
        found = []
        if self.processes:
            folders = ", ".join(sorted({one.cluster for one in self.processes}))
            found.append(f"{len(self.processes)} processes of {folders}")
        if self.interfaces:
            found.append(f"network interface {', '.join(self.interfaces)}")
        if self.cgroups:
            found.append(f"control group {self.cgroups[0]}")
        return "; ".join(found)

    def __bool__(self) -> bool:
        return bool(self.processes or self.interfaces or self.cgroups)


def traces(directory: Path | None) -> Traces:
    """What is there of the cluster in this folder, and of any that nothing runs of any more; None: of all."""
    processes = marked_processes()
    others = {one.number for one in processes if directory is not None and one.cluster != str(directory)}
    return Traces(
        [one for one in processes if directory is None or one.cluster == str(directory)],
        [name for number, name in interfaces() if number not in others],
        [path for number, path in cgroups() if number not in others],
    )


def remove(directory: Path, *, everything: bool = False) -> Traces:
    """Remove the cluster in `directory`, its data, and what is left of others, or all clusters; returns what was there.

    Clusters that run in other folders are left alone unless `everything` is to go.

    Raises:
        UnfitMachineError: only root could.
        ClusterError: something could not be removed.
    """
    whose = None if everything else directory
    found = traces(whose)
    if found and os.geteuid() != 0:
        raise UnfitMachineError(f"a cluster is there ({found}), and only root can end it: use sudo")
    folders = {directory, *(Path(one.cluster) for one in found.processes)}
    _end_processes(whose)
    for name in found.interfaces:
        subprocess.run(["ip", "link", "delete", name], capture_output=True)
    for group in found.cgroups:
        _remove_cgroup(group)
    for folder in folders:
        for mount in mounts_below(folder):
            subprocess.run(["umount", "--lazy", str(mount)], capture_output=True)
        for name in DATA:
            _remove_path(folder / name)
    if rest := traces(whose):
        raise ClusterError(f"this could not be removed: {rest}; end what holds it and run down again")
    return found


def _end_processes(cluster: Path | None) -> None:
    """Kill them all. The first process of a node takes all of the node's along, with mounts and networks."""
    deadline = time.monotonic() + END_SECONDS
    while processes := marked_processes(cluster):
        if time.monotonic() > deadline:
            shown = ", ".join(f"{one.program} ({one.pid})" for one in processes[:5])
            raise ClusterError(f"still there {END_SECONDS:g} s after SIGKILL: {shown}; run down again")
        for one in processes:
            with suppress(ProcessLookupError):
                os.kill(one.pid, signal.SIGKILL)
        time.sleep(POLL_SECONDS)


def _remove_cgroup(group: Path) -> None:
    """A group can be removed once the kernel has finished with the processes in it."""
    deadline = time.monotonic() + END_SECONDS
    while True:
        _kill_members(group)
        for folder in sorted(group.rglob("*"), key=lambda one: len(one.parts), reverse=True):
            if folder.is_dir():
                with suppress(OSError):
                    folder.rmdir()
        with suppress(OSError):
            group.rmdir()
        if not group.exists() or time.monotonic() > deadline:
            return
        time.sleep(POLL_SECONDS)


def _kill_members(group: Path) -> None:
    for members in group.rglob("cgroup.procs"):
        with suppress(OSError, ValueError):
            for pid in members.read_text().split():
                if int(pid) > 0:  # 0 is one of another process namespace
                    os.kill(int(pid), signal.SIGKILL)


def _remove_path(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
