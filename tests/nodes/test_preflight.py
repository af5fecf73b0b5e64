"""Each thing that keeps nodes from running here is one clear line, before anything is started."""

from __future__ import annotations

import shutil
import socket
from collections import namedtuple
from pathlib import Path

import pytest

from e2e.cluster import leftovers, preflight
from e2e.cluster.errors import LeftoverError, UnfitMachineError
from e2e.cluster.layout import Place
from e2e.cluster.leftovers import Traces
from e2e.cluster.marks import Marked
from e2e.cluster.network import overlapping
from e2e.cluster.preflight import PACKAGES, check_machine, find_room
from e2e.controlplane.processes import free_ports

Usage = namedtuple("Usage", ["total", "used", "free"])


@pytest.fixture
def fit(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A machine that could run nodes, whatever this one is."""
    monkeypatch.setattr(preflight.sys, "platform", "linux")
    monkeypatch.setattr(preflight.os, "geteuid", lambda: 0)
    monkeypatch.setattr(preflight.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(preflight, "_controllers", lambda: {"cpu", "cpuset", "memory", "pids"})
    monkeypatch.setattr(preflight, "cgroup_roots", lambda: [])
    monkeypatch.setattr(preflight, "traces", lambda directory: Traces([], [], []))
    monkeypatch.setattr(preflight, "marked_processes", lambda: [])
    monkeypatch.setattr(preflight, "overlapping_route", lambda place: "")
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda path: Usage(100 << 30, 0, 100 << 30))
    return monkeypatch


def the_line(error: pytest.ExceptionInfo[Exception]) -> str:
    (line,) = str(error.value).splitlines()
    return line


def test_other_systems_are_told_of_kind(fit: pytest.MonkeyPatch) -> None:
    fit.setattr(preflight.sys, "platform", "darwin")
    with pytest.raises(UnfitMachineError) as error:
        check_machine()
    assert "need Linux" in the_line(error) and "kind" in the_line(error)


def test_users_are_told_to_use_sudo(fit: pytest.MonkeyPatch) -> None:
    fit.setattr(preflight.os, "geteuid", lambda: 1000)
    with pytest.raises(UnfitMachineError) as error:
        check_machine()
    assert "sudo" in the_line(error) and "USE_EXISTING_CLUSTER=1" in the_line(error)


def test_missing_programs_are_named_with_their_packages(fit: pytest.MonkeyPatch) -> None:
    fit.setattr(preflight.shutil, "which", lambda name: None if name in ("iptables", "ip") else name)
    with pytest.raises(UnfitMachineError) as error:
        check_machine()
    assert the_line(error).startswith("ip, iptables not found: apt install iproute2 iptables ")
    assert set(PACKAGES) >= {"ip", "iptables"}


def test_machine_without_control_groups_says_which(fit: pytest.MonkeyPatch) -> None:
    fit.setattr(preflight, "_controllers", lambda: {"cpu", "cpuset"})
    with pytest.raises(UnfitMachineError) as error:
        check_machine()
    assert "memory, pids" in the_line(error)


def test_read_only_control_groups_are_those_of_a_container(fit: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fit.setattr(preflight, "cgroup_roots", lambda: [("cgroup2", tmp_path)])
    fit.setattr(preflight.os, "access", lambda path, mode: False)
    with pytest.raises(UnfitMachineError) as error:
        check_machine()
    assert "read-only" in the_line(error) and "--privileged" in the_line(error)


def test_old_cluster_is_named_with_the_command_that_removes_it(fit: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fit.setattr(preflight, "traces", lambda directory: Traces([], ["lora0"], []))
    with pytest.raises(LeftoverError) as error:
        find_room(tmp_path, *free_ports(1))
    assert "lora0" in the_line(error) and "make cluster-down" in the_line(error)


def test_taken_port_is_named(fit: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UnfitMachineError) as error:
            find_room(tmp_path, port)
    assert f"port {port} is taken" in the_line(error) and "--port" in the_line(error)


def test_full_disk_is_named_with_what_is_needed(fit: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fit.setattr(shutil, "disk_usage", lambda path: Usage(100 << 30, 99 << 30, 1 << 30))
    with pytest.raises(UnfitMachineError) as error:
        find_room(tmp_path / "not" / "yet", *free_ports(1))
    assert the_line(error).startswith(f"{tmp_path} has 1.0 GiB left")


def test_networks_that_are_in_use_are_named(fit: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fit.setattr(preflight, "overlapping_route", lambda place: "10.212.0.0/14 on vpn0")
    with pytest.raises(UnfitMachineError) as error:
        find_room(tmp_path, *free_ports(1))
    assert "10.212.0.0/14 on vpn0" in the_line(error)


def test_cluster_beside_another_gets_networks_that_nothing_uses(fit: pytest.MonkeyPatch, tmp_path: Path) -> None:
    fit.setattr(preflight, "marked_processes", lambda: [Marked(1, "etcd", "/elsewhere", 0, "etcd")])
    fit.setattr(preflight, "overlapping_route", lambda place: "10.214.0.0/16 on vpn0" if place.number == 1 else "")
    assert find_room(tmp_path, *free_ports(1)) == Place(2)
    networks = [str(one) for one in (Place(2).nodes, Place(2).pods, Place(2).services)]
    assert networks == ["10.217.0.0/24", "10.218.0.0/16", "10.219.0.0/16"]


def test_only_routes_into_the_clusters_networks_are_in_the_way() -> None:
    usual = [
        {"dst": "default", "gateway": "192.0.2.1", "dev": "eth0"},
        {"dst": "10.0.0.0/16", "dev": "eth0"},
        {"type": "broadcast", "dst": "192.0.2.255", "dev": "eth0"},
    ]
    assert overlapping(Place(0), usual) == ""
    assert overlapping(Place(0), [*usual, {"dst": "10.212.7.0/24", "dev": "vpn0"}]) == "10.212.7.0/24 on vpn0"
    assert overlapping(Place(0), [*usual, {"dst": "10.0.0.0/8", "dev": "vpn0"}]) == "10.0.0.0/8 on vpn0"
    assert overlapping(Place(0), [{"dst": "10.211.0.0/24", "dev": "lora0"}]) == ""


def test_only_root_can_end_a_cluster_and_others_are_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(leftovers, "traces", lambda directory: Traces([], ["lora0"], []))
    monkeypatch.setattr(leftovers.os, "geteuid", lambda: 1000)
    with pytest.raises(UnfitMachineError) as error:
        leftovers.remove(tmp_path)
    assert "lora0" in the_line(error) and "sudo" in the_line(error)
