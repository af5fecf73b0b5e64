"""What belongs to a cluster is found by looking at the machine, here at copies of what the kernel shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from e2e.cluster import leftovers
from e2e.cluster.marks import Marked, cgroup_roots, cgroups, interfaces, marked_processes, mounts_below, part_of

MOUNTS = r"""22 1 254:0 / / rw - ext4 /dev/vda rw
31 22 0:27 / {root}/memory rw,relatime - cgroup cgroup rw,memory
32 22 0:28 / {root}/unified rw,relatime - cgroup2 cgroup2 rw
40 22 0:40 / {root}/cluster/nodes/node1/a\040b rw - tmpfs tmpfs rw
41 22 0:41 / {root}/cluster/nodes/node1 rw - tmpfs tmpfs rw
42 22 0:42 / {root}/clusters rw - tmpfs tmpfs rw
"""


@pytest.fixture
def mountinfo(tmp_path: Path) -> Path:
    file = tmp_path / "mountinfo"
    file.write_text(MOUNTS.replace("{root}", str(tmp_path)))
    return file


def a_process(proc: Path, pid: int, command: str, **environment: str) -> None:
    folder = proc / str(pid)
    folder.mkdir(parents=True)
    (folder / "environ").write_text("".join(f"{name}={value}\0" for name, value in environment.items()))
    (folder / "cmdline").write_text(command.replace(" ", "\0"))


def test_processes_are_known_by_their_marks_and_not_by_their_names(tmp_path: Path) -> None:
    marks = {"LORA_OPERATOR_CLUSTER": "/somewhere", "LORA_OPERATOR_CLUSTER_NUMBER": "1"}
    marks["LORA_OPERATOR_CLUSTER_PART"] = "kubelet@node1"
    a_process(tmp_path, 10, "/run/programs/kubelet --config=x", **marks)
    a_process(tmp_path, 11, "/usr/bin/kubelet", HOME="/root")
    a_process(tmp_path, 12, "")  # a zombie has neither
    (tmp_path / "13").mkdir()  # ended while we looked
    (tmp_path / "self").mkdir()
    assert marked_processes(proc=tmp_path) == [Marked(10, "kubelet", "/somewhere", 1, "kubelet@node1")]
    assert marked_processes(Path("/somewhere/else"), proc=tmp_path) == []


def test_part_is_its_own_program_and_no_child_that_inherited_its_marks() -> None:
    parent = Marked(7, "containerd", "/c", 0, "containerd@node1")
    shim = Marked(8, "containerd-shim-runc-v2", "/c", 0, "containerd@node1")
    other = Marked(9, "containerd", "/c", 0, "containerd@node2")
    assert part_of("containerd@node1", "containerd", [shim, other, parent]) == parent
    assert part_of("containerd@node3", "containerd", [shim, other, parent]) is None


def test_interfaces_of_others_are_left_alone(tmp_path: Path) -> None:
    for name in ("lora0", "lora0n1", "lora0n12", "lora1", "lora01", "lora0x", "eth0"):
        (tmp_path / name).mkdir()
    assert interfaces(tmp_path) == [(0, "lora0"), (0, "lora0n1"), (0, "lora0n12"), (1, "lora1")]


def test_both_versions_of_control_groups_are_looked_through(mountinfo: Path, tmp_path: Path) -> None:
    assert list(cgroup_roots(mountinfo)) == [("cgroup", tmp_path / "memory"), ("cgroup2", tmp_path / "unified")]
    (tmp_path / "unified" / "lora-operator-cluster1").mkdir(parents=True)
    assert cgroups(mountinfo) == [(1, tmp_path / "unified" / "lora-operator-cluster1")]


def test_mounts_of_a_folder_are_found_innermost_first_and_none_of_its_neighbours(
    mountinfo: Path, tmp_path: Path
) -> None:
    below = mounts_below(tmp_path / "cluster", mountinfo)
    assert below == [tmp_path / "cluster/nodes/node1/a b", tmp_path / "cluster/nodes/node1"]


def test_cluster_that_runs_in_another_folder_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """What has the number of a cluster of which nothing runs any more belongs to nobody, and goes."""
    processes = [Marked(1, "etcd", "/mine", 0, "etcd"), Marked(2, "etcd", "/other", 1, "etcd")]
    monkeypatch.setattr(leftovers, "marked_processes", lambda cluster=None: processes)
    monkeypatch.setattr(leftovers, "interfaces", lambda: [(0, "lora0"), (1, "lora1"), (2, "lora2")])
    monkeypatch.setattr(leftovers, "cgroups", lambda: [(number, Path(f"/g{number}")) for number in range(3)])
    mine = leftovers.traces(Path("/mine"))
    assert mine == leftovers.Traces([processes[0]], ["lora0", "lora2"], [Path("/g0"), Path("/g2")])
    assert leftovers.traces(None).interfaces == ["lora0", "lora1", "lora2"]
