"""Says in one line why this machine cannot run nodes, before anything is started."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

from e2e.cluster.errors import LeftoverError, UnfitMachineError
from e2e.cluster.layout import MAX_CLUSTERS, Place
from e2e.cluster.leftovers import traces
from e2e.cluster.marks import cgroup_roots, marked_processes
from e2e.cluster.network import overlapping_route

ELSE = "or use a cluster that you have: KUBECONFIG=… USE_EXISTING_CLUSTER=1"
# of Debian's packages for what is used of the machine itself
PACKAGES = {
    "ip": "iproute2", "iptables": "iptables", "mount": "mount", "unshare": "util-linux", "nsenter": "util-linux",
    "hostname": "hostname",
}  # fmt: skip
CONTROLLERS = {"cpu", "cpuset", "memory", "pids"}
IP_FREEBIND = 15  # of linux/in.h: binds to an address that is not there yet
SPACE_BYTES = 4 << 30  # two nodes with the images of the behaviours take half of it


def check_machine() -> None:
    """See to it that nodes can run here at all.

    Raises:
        UnfitMachineError: they cannot.
    """
    if not sys.platform.startswith("linux"):
        raise UnfitMachineError(f"nodes need Linux, and this is {sys.platform}: use kind, {ELSE}")
    if os.geteuid() != 0:
        raise UnfitMachineError(f"nodes need root: run this with sudo, {ELSE}")
    if absent := [name for name in PACKAGES if shutil.which(name) is None]:
        packages = " ".join(sorted({PACKAGES[name] for name in absent}))
        raise UnfitMachineError(f"{', '.join(absent)} not found: apt install {packages} (Debian, Ubuntu), {ELSE}")
    if lacking := CONTROLLERS - _controllers():
        raise UnfitMachineError(
            f"no control groups for {', '.join(sorted(lacking))} in /proc/self/mountinfo: mount them, {ELSE}"
        )
    for _, root in cgroup_roots():
        if not os.access(root, os.W_OK):
            raise UnfitMachineError(
                f"control groups in {root} are read-only, as in containers: use --privileged, {ELSE}"
            )
    tried = subprocess.run(
        ["unshare", "--mount", "--pid", "--net", "--uts", "--ipc", "--fork", "--mount-proc", "true"],
        capture_output=True, text=True,
    )  # fmt: skip
    if tried.returncode != 0:
        raise UnfitMachineError(f"no namespaces can be made ({tried.stderr.strip()}): give root CAP_SYS_ADMIN, {ELSE}")


def find_room(directory: Path, api_port: int) -> Place:
    """What a new cluster can have of the machine, beside other clusters.

    Raises:
        LeftoverError: an old one is in the way.
        UnfitMachineError: the port, the networks or the disk are taken.
    """
    if found := traces(directory):
        raise LeftoverError(f"a cluster is there already ({found}): make cluster-down")
    place = _free_place()
    there = next(folder for folder in (directory, *directory.parents) if folder.exists())
    if (free := shutil.disk_usage(there).free) < SPACE_BYTES:
        raise UnfitMachineError(
            f"{there} has {free / 2**30:.1f} GiB left and a cluster takes {SPACE_BYTES / 2**30:.0f}: "
            "free some, or choose another folder with --dir"
        )
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.setsockopt(socket.IPPROTO_IP, IP_FREEBIND, 1)
        try:
            probe.bind((str(place.host), api_port))
        except OSError as error:
            raise UnfitMachineError(
                f"port {api_port} is taken ({error.strerror}): choose another with --port"
            ) from error
    return place


def _free_place() -> Place:
    """The first whose number no running cluster has, and whose networks lead nowhere yet."""
    running = {one.number for one in marked_processes()}
    refused = []
    for place in map(Place, range(MAX_CLUSTERS)):
        if place.number in running:
            refused.append(f"{place.nodes} is another cluster's")
        elif route := overlapping_route(place):
            refused.append(f"{place.nodes} or one of the two after it has a route already: {route}")
        else:
            return place
    raise UnfitMachineError(f"no networks for another cluster ({'; '.join(refused)}): end one, {ELSE}")


def _controllers() -> set[str]:
    found: set[str] = set()
    for kind, root in cgroup_roots():
        if kind == "cgroup2":
            found.update((root / "cgroup.controllers").read_text().split())
        else:
            found.update(root.name.split(","))
    return found
