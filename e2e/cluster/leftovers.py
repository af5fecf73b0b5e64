"""Removes everything that clusters have left on this machine, in whatever state they were."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from e2e.cluster.errors import ClusterError, UnfitMachineError
from e2e.cluster.marks import cgroups, interfaces, marked_processes, mounts_below

END_SECONDS = 60.0
POLL_SECONDS = 0.05
# of a cluster's folder; logs stay, so that one can see what went wrong
DATA = ("etcd", "nodes", "bin", "images", "pki", "kubeconfig", "kubeconfig.ca")


def describe() -> list[str]:
    """What is there of a cluster, in words; empty if nothing is."""
    found = []
    if processes := marked_processes():
        found.append(f"{len(processes)} processes of {', '.join(sorted({one.cluster for one in processes}))}")
    if names := interfaces():
        found.append(f"network interface {', '.join(names)}")
    if groups := cgroups():
        found.append(f"control group {groups[0]}")
    return found


def remove(directory: Path) -> list[str]:
    """Remove what is there of any cluster, and the data in `directory`; returns what was found.

    Raises:
        UnfitMachineError: only root could.
        ClusterError: something could not be removed.
    """
    found = describe()
    if found and os.geteuid() != 0:
        raise UnfitMachineError(f"a cluster is there ({'; '.join(found)}), and only root can end it: use sudo")
    folders = {directory, *(Path(one.cluster) for one in marked_processes())}
    _end_processes()
    for name in interfaces():
        subprocess.run(["ip", "link", "delete", name], capture_output=True)
    for group in cgroups():
        _remove_cgroup(group)
    for folder in folders:
        for mount in mounts_below(folder):
            subprocess.run(["umount", "--lazy", str(mount)], capture_output=True)
        for name in DATA:
            _remove_path(folder / name)
    if rest := describe():
        raise ClusterError(f"this could not be removed: {'; '.join(rest)}; end what holds it and run down again")
    return found


def _end_processes() -> None:
    """Kill them all. The first process of a node takes all of the node's along, with mounts and networks."""
    deadline = time.monotonic() + END_SECONDS
    while processes := marked_processes():
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
