"""Clusters that were killed while they began, and what `up` and `down` make of what they left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.cluster.cluster import Cluster
from e2e.cluster.errors import ClusterError, LeftoverError
from e2e.cluster.leftovers import remove, traces
from e2e.cluster.marks import marked_processes, mounts_below
from e2e.cluster.preflight import check_machine
from e2e.controlplane.existing import is_wanted


@pytest.fixture
def free(tmp_path: Path) -> Iterator[Path]:
    """A folder for a cluster; others may run on this machine. What a test leaves is removed."""
    if is_wanted(os.environ):
        pytest.skip("the cluster of the user is not begun here")
    try:
        check_machine()
    except ClusterError as error:
        pytest.skip(str(error))
    yield tmp_path / "cluster"
    remove(tmp_path / "cluster")


def rest_of(directory: Path) -> list[str]:
    """What is left of it beside logs."""
    files = [path.name for path in directory.iterdir() if path.suffix != ".log"] if directory.is_dir() else []
    return [
        *([str(found)] if (found := traces(directory)) else []),
        *files,
        *(str(mount) for mount in mounts_below(directory)),
    ]


@pytest.mark.parametrize("part", ["etcd", "node1", "containerd@node1", "kubelet@node2"])
def test_cluster_that_is_killed_while_it_begins_is_removed_whole(free: Path, part: str) -> None:
    up = subprocess.Popen(
        [sys.executable, "-m", "e2e.cluster", "up", "--dir", str(free)],
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 240
    while not any(one.part == part for one in marked_processes(free)):
        assert up.poll() is None and time.monotonic() < deadline, f"{part} did not begin"
        time.sleep(0.01)  # nobody tells of processes that begin
    os.killpg(up.pid, signal.SIGKILL)
    up.wait()
    with pytest.raises(LeftoverError, match="make cluster-down"):
        Cluster.start(free)
    assert remove(free)
    assert rest_of(free) == []


def test_down_finds_nothing_where_nothing_is(free: Path) -> None:
    assert not remove(free)


def test_cluster_leaves_this_machine_as_it_was(free: Path) -> None:
    before = state_of_the_machine()
    with Cluster.start(free) as cluster:
        assert all(cluster.parts().values())
        names = cluster.kubectl("get", "nodes", "-o", "name").split()
        assert names == ["node/node1", "node/node2"]
        assert "not found" not in cluster.kubectl("get", "storageclass", "local-path")
        during = state_of_the_machine()
        assert during["firewall"] == before["firewall"] and during["kernel"] == before["kernel"]
    assert rest_of(free) == []
    assert state_of_the_machine() == before


def test_address_of_the_nodes_is_gone_with_the_cluster(free: Path) -> None:
    threads = threading.active_count()
    with Cluster.start(free, nodes=1) as cluster:
        address = str(cluster.layout.place.host)
        assert address in subprocess.run(["ip", "address"], capture_output=True, text=True).stdout
    assert address not in subprocess.run(["ip", "address"], capture_output=True, text=True).stdout
    assert threading.active_count() <= threads


def state_of_the_machine() -> dict[str, str]:
    settings = ("vm/overcommit_memory", "kernel/panic", "kernel/panic_on_oops", "net/ipv4/ip_forward")
    commands = {
        "firewall": ["iptables-save"],
        "routes": ["ip", "route"],
        "namespaces": ["ip", "netns", "list"],
    }
    state = {name: subprocess.run(command, capture_output=True, text=True).stdout for name, command in commands.items()}
    state["kernel"] = " ".join((Path("/proc/sys") / name).read_text().strip() for name in settings)
    state["firewall"] = "".join(line for line in state["firewall"].splitlines() if line.startswith("-A"))
    return state
