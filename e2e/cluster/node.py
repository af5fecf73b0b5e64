"""One node: its namespaces, and containerd, kubelet and kube-proxy in them."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path
from typing import IO

import psutil

from e2e.cluster.authority import Authority, Users
from e2e.cluster.errors import ImageError, StartError
from e2e.cluster.layout import Layout, NodeLayout
from e2e.cluster.marks import cgroup_roots, marked_processes, part_of
from e2e.cluster.network import plug_in, run
from e2e.cluster.node_files import (
    BEGIN,
    CONTAINERD_SOCKET,
    INSIDE,
    PROGRAMS_INSIDE,
    PROXY_USER_FILE,
    write_node_files,
)
from e2e.cluster.parts import Parts
from e2e.cluster.servers import PROXY_USER
from e2e.controlplane.credentials import write_kubeconfig
from e2e.controlplane.processes import tail

DAEMONS = ("containerd", "kubelet", "kube-proxy")
START_SECONDS = 90.0
POLL_SECONDS = 0.05
# Beside every process of this machine that is in no group, all pods together would count as one process: on a busy
# machine DNS would not answer for seconds. Ten times the usual weight, in both versions of control groups.
CPU_WEIGHTS = {"cpu.shares": 10240, "cpu.weight": 1000}
# the API server's name for a node, and the group that the Node authorizer knows nodes by
NODE_GROUP = "system:nodes"


def node_user(node: NodeLayout) -> str:
    return f"system:node:{node.name}"


class Node:
    """A node of the cluster in `layout`, which may have been started by another process."""

    def __init__(self, layout: Layout, node: NodeLayout) -> None:
        self._layout = layout
        self.layout = node

    def start(self, parts: Parts, others: list[NodeLayout]) -> None:
        """Make its namespaces and start its daemons; it registers itself with the API server.

        Raises:
            StartError: something ended or was not there in time.
        """
        make_cgroup(self.layout)
        write_node_files(self.layout, snapshotter(self._layout.directory))
        namespaces = ["--mount", "--pid", "--net", "--uts", "--ipc", "--fork", "--kill-child", "--mount-proc"]
        begin = ["sh", "-c", BEGIN, "sh", str(self.layout.directory), str(self._layout.programs), self.layout.name]
        unshare = parts.start(self.layout.name, ["unshare", *namespaces, *begin], self.log("namespaces"))
        plug_in(self.layout, self._wait_for_first(unshare), others)
        self.start_daemon(parts, "containerd")
        self._wait_for_containerd()
        self.load(self._layout.images / "node-tools.tar")
        self.start_daemon(parts, "kubelet")
        self.start_daemon(parts, "kube-proxy")

    def give_credentials(self, authority: Authority, users: Users) -> None:
        """Write what its daemons need to serve, and to be known to the API server."""
        folder = self.layout.directory
        folder.mkdir(parents=True, exist_ok=True)
        user = node_user(self.layout)
        issued = authority.issue(user, group=NODE_GROUP, names=[self.layout.name], addresses=[self.layout.address])
        shutil.copy(issued.certificate, folder / "kubelet.crt")
        shutil.copy(issued.key, folder / "kubelet.key")
        shutil.copy(authority.certificate, folder / "ca.crt")
        for name, account in (("kubelet.kubeconfig", user), (PROXY_USER_FILE, PROXY_USER)):
            write_kubeconfig(
                folder / name,
                url=self._layout.url,
                authority=authority.certificate.read_bytes(),
                token=users.tokens[account],
                user=account,
            )

    def start_daemon(self, parts: Parts, name: str) -> None:
        """Start containerd, kubelet or kube-proxy in the node's namespaces."""
        arguments = {
            "containerd": [f"--config={INSIDE}/containerd.toml"],
            "kubelet": [
                f"--config={INSIDE}/kubelet.json",
                f"--kubeconfig={INSIDE}/kubelet.kubeconfig",
                f"--hostname-override={self.layout.name}",
                f"--node-ip={self.layout.address}",
                f"--node-labels=topology.kubernetes.io/zone=zone{self.layout.number}",
            ],
            "kube-proxy": [f"--config={INSIDE}/kube-proxy.json"],
        }[name]
        command = [*self._enter(), str(PROGRAMS_INSIDE / name), *arguments]
        path = f"{PROGRAMS_INSIDE}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        parts.start(f"{name}@{self.layout.name}", command, self.log(name), {"PATH": path})

    def kill_daemon(self, name: str) -> None:
        """End containerd, kubelet or kube-proxy with SIGKILL; containers go on without them.

        Raises:
            StartError: it does not run.
        """
        found = part_of(f"{name}@{self.layout.name}", name, marked_processes(self._layout.directory))
        if found is None:
            raise StartError(f"{name} of {self.layout.name} does not run")
        process = psutil.Process(found.pid)
        process.kill()
        process.wait(START_SECONDS)

    def first(self) -> int | None:
        """The process that holds the node's namespaces, as this machine counts, or None if the node is not there."""
        found = part_of(self.layout.name, "pause", marked_processes(self._layout.directory))
        return found.pid if found else None

    def load(self, archive: Path | IO[bytes]) -> list[str]:
        """Import the images of a docker-archive or OCI archive; returns what containerd says.

        Raises:
            ImageError: containerd refuses.
        """
        if isinstance(archive, Path):
            with archive.open("rb") as file:
                return self.load(file)
        command = [*self.ctr(), "images", "import", "--all-platforms", "-"]
        done = subprocess.run(command, stdin=archive, capture_output=True, text=True)
        if done.returncode != 0:
            raise ImageError(f"{self.layout.name}: ctr images import: {done.stderr.strip()}")
        return done.stdout.splitlines()

    def has_image(self, name: str) -> bool:
        """Whether it has an image of this name (repository:tag, of Docker's library where no registry is named)."""
        listed = run(*self.ctr(), "images", "list", "--quiet")
        full = name if "/" in name else f"docker.io/library/{name}"
        return full in listed.split()

    def kill_container(self, container: str) -> None:
        """End the first process of a container with SIGKILL, as the kernel does when memory runs out.

        Raises:
            StartError: there is no such container.
        """
        run(*self.ctr(), "tasks", "kill", "--signal=SIGKILL", container)

    def stop_container(self, container: str) -> None:
        """Stop the first process of a container with SIGSTOP: it has its connections, and answers nobody.

        Raises:
            StartError: there is no such container.
        """
        run(*self.ctr(), "tasks", "kill", "--signal=SIGSTOP", container)

    def ctr(self) -> list[str]:
        """containerd's own client, on the images and containers of Kubernetes."""
        return [*self._enter(), f"{PROGRAMS_INSIDE}/ctr", f"--address={CONTAINERD_SOCKET}", "--namespace=k8s.io"]

    def log(self, part: str) -> Path:
        return self._layout.log(f"{self.layout.name}-{part}")

    def _enter(self) -> list[str]:
        pid = self.first()
        if pid is None:
            raise StartError(f"{self.layout.name} is not there; the end of its log:\n{tail(self.log('namespaces'))}")
        return ["nsenter", f"--target={pid}", "--mount", "--pid", "--net", "--uts", "--ipc", "--wd=/", "--"]

    def _wait_for_first(self, unshare: subprocess.Popen[bytes]) -> int:
        deadline = time.monotonic() + START_SECONDS
        while (pid := self.first()) is None:
            if unshare.poll() is not None or time.monotonic() > deadline:
                raise StartError(f"{self.layout.name} did not begin: {tail(self.log('namespaces'))}")
            time.sleep(POLL_SECONDS)
        return pid

    def _wait_for_containerd(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while subprocess.run([*self.ctr(), "version"], capture_output=True).returncode != 0:
            if time.monotonic() > deadline:
                raise StartError(f"containerd of {self.layout.name} does not answer:\n{tail(self.log('containerd'))}")
            time.sleep(POLL_SECONDS)


def make_cgroup(node: NodeLayout) -> None:
    """Make its control group in every hierarchy, with all controllers that can be had."""
    for kind, root in cgroup_roots():
        folder = root
        for name in node.cgroup.strip("/").split("/"):
            if kind == "cgroup2":
                _delegate(folder)
            folder = folder / name
            folder.mkdir(exist_ok=True)
        if kind == "cgroup2":
            _delegate(folder)
        for name, weight in CPU_WEIGHTS.items():
            if (file := root / node.place.cgroup / name).exists():
                file.write_text(str(weight))


def _delegate(folder: Path) -> None:
    """Let groups in this one have its controllers, one by one, as one that is refused refuses all of a line."""
    for controller in (folder / "cgroup.controllers").read_text().split():
        try:
            (folder / "cgroup.subtree_control").write_text(f"+{controller}")
        except OSError:
            continue


def snapshotter(directory: Path) -> str:
    """containerd's way to stack layers: overlays, but for a folder that is on an overlay itself (in a container)."""
    best: tuple[int, str] = (-1, "")
    for partition in psutil.disk_partitions(all=True):
        point = Path(partition.mountpoint)
        if point == directory or point in directory.parents:
            best = max(best, (len(point.parts), partition.fstype))
    return "native" if best[1] == "overlay" else "overlayfs"
