"""A router that follows the change stream loses no request and hears no 404, whatever is done to the fleet in order."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.behaviours.asking import pick_at
from e2e.behaviours.client import digest_of
from e2e.behaviours.routing_traffic import RoutedTraffic
from e2e.behaviours.worlds import Worlds
from e2e.controlplane import ControlPlane
from e2e.controlplane.processes import free_ports
from e2e.world import World
from e2e.world.world import ROOT, SYSTEM_NAMESPACE, assigned, condition, eventually

IN_SERVICE = "example.com/in-service"
LETS_GO = ("--withdraw-seconds", "2")  # what a change takes to this router and its users, on a busy machine too
RIGHTS = ("ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding")


@pytest.fixture(scope="module")
def reader(plane: ControlPlane) -> Path:
    """The credentials that routers run with: those of the shipped manifests."""
    objects = [*yaml.safe_load_all((ROOT / "manifests" / "install" / "router.yaml").read_text())]
    rights = {"apiVersion": "v1", "kind": "List", "items": [one for one in objects if one["kind"] in RIGHTS]}
    plane.kubectl("apply", "-f", "-", input=json.dumps(rights))
    (account,) = [one["metadata"]["name"] for one in objects if one["kind"] == "ServiceAccount"]
    return plane.service_account_kubeconfig(SYSTEM_NAMESPACE, account)


def get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=5) as answer:
        return json.loads(answer.read())


def answers(url: str) -> bool:
    try:
        return bool(get(f"{url}/readyz")["ready"])
    except OSError:
        return False


@contextmanager
def a_router(world: World, kubeconfig: Path, port: int, *more: str) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """`lora-operator router` as a process of its own; its URL once it answers."""
    command = [
        sys.executable, "-m", "lora_operator.cli.main", "router", "--kubeconfig", str(kubeconfig), "--host",
        "127.0.0.1", "--port", str(port), "--namespace", world.namespace, "--log-format", "console", *more,
    ]  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    with (world.directory / "router.log").open("ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env=dict(os.environ), start_new_session=True)
        try:
            eventually(lambda: answers(url) or process.poll() is not None, what=["the router answers"])
            assert process.poll() is None, (world.directory / "router.log").read_text()
            yield url, process
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) is not None


def put_in_service(world: World, pod: str, yes: bool = True) -> None:
    """What a load balancer's controller, or a person who drains a pod, does with a readiness gate."""
    pods = f"/api/v1/namespaces/{world.namespace}/pods"
    world.rest.wait(pods, pod, lambda body: bool(body) and "deletionTimestamp" not in body["metadata"])
    gate = {"type": IN_SERVICE, "status": "True" if yes else "False"}
    patch = json.dumps({"status": {"conditions": [gate]}})
    world.kubectl("patch", "pod", pod, "--subresource=status", "-p", patch)


def publish(world: World, name: str, seed: int) -> str:
    return digest_of(world.adapter(name, seed=seed))


def wait_rolled_out(world: World, name: str) -> None:
    wanted = digest_of(world.source / name)

    def done(status: dict[str, Any]) -> bool:
        folder = world.volume / name / status["adapters"][0]["fingerprint"]
        return condition(status, "Ready") == "True" and folder.is_dir() and digest_of(folder) == wanted

    world.wait(name, done)


def test_no_request_is_lost_while_adapters_are_rolled_and_pods_restarted_and_scaled(
    worlds: Worlds, reader: Path
) -> None:
    world = worlds(0, operator=LETS_GO)
    world.start_pods(2, readiness_gates=[IN_SERVICE], wait=False)
    for pod in ("vllm-0", "vllm-1"):
        put_in_service(world, pod)
    world.pods.wait_ready(world.namespace, 2)
    versions = {"sql": {publish(world, "sql", 0)}, "chat": {publish(world, "chat", 10)}}
    world.apply("sql", "sql", deployment={"replicaPolicy": "AllPods"})
    world.apply("chat", "chat", deployment={"replicas": 2})
    world.wait_ready("sql")
    world.wait_ready("chat")
    port = free_ports(1)[0]
    with (
        a_router(world, reader, port) as (url, process),
        RoutedTraffic(url, world.namespace, ("sql", "chat")) as traffic,
    ):
        for seed in (1, 2):
            traffic.more()
            for name in ("sql", "chat"):
                versions[name].add(publish(world, name, seed + 10 * (name == "chat")))
            for name in ("sql", "chat"):
                wait_rolled_out(world, name)

        world.kubectl("scale", "statefulset/vllm", "--replicas=3")
        put_in_service(world, "vllm-2")
        traffic.until(lambda copy: any(one["pod"] == "vllm-2" for one in copy.pods(world.namespace, "sql")))
        traffic.more()

        # a restart in order: out of service first, then deleted by name
        put_in_service(world, "vllm-1", False)
        traffic.let_go("vllm-1")
        world.kubectl("delete", "pod", "vllm-1")
        put_in_service(world, "vllm-1")
        traffic.until(lambda copy: any(one["pod"] == "vllm-1" for one in copy.pods(world.namespace, "sql")))
        traffic.more()

        put_in_service(world, "vllm-2", False)
        traffic.let_go("vllm-2")
        world.kubectl("scale", "statefulset/vllm", "--replicas=2")
        world.wait("sql", lambda status: sorted(assigned(status)) == ["vllm-0", "vllm-1"])

        # copies that are unloaded while they are asked
        world.apply("sql", "sql", deployment={"replicas": 1})
        eventually(lambda: sum("sql" in e.models() for e in world.engines().values()) == 1, what=["one copy"])
        traffic.more()

        # the router itself goes, and comes back with another table: its clients serve on meanwhile
        first = traffic.copy.version.partition("-")[0]
        process.kill()
        process.wait()
        traffic.more()
        with a_router(world, reader, port):
            traffic.until(lambda copy: copy.resets == 1 and copy.version.partition("-")[0] != first)
            traffic.more()
            gaps = traffic.tally.gaps

            # and nobody is sent where an adapter was that is deleted
            world.kubectl("delete", "la", "sql", "--wait=false")
            world.wait_gone("sql")
            traffic.more()
        tally = traffic.tally
    assert not tally.wrong
    assert not tally.broken
    assert not gaps and tally.gaps
    assert set(tally.statuses) == {200} and tally.statuses[200] > 150
    assert tally.weights == versions


def test_of_a_pod_that_is_killed_only_its_own_requests_are_lost_and_none_hears_404(worlds: Worlds) -> None:
    port = free_ports(1)[0]
    operator = (*LETS_GO, "--router-port", str(port))  # the operator's own table, which is ahead of status
    world = worlds(3, operator=operator, pod_options={"restart_seconds": 0.5})
    versions = {publish(world, "sql", 0)}
    world.apply("sql", "sql", deployment={"replicaPolicy": "AllPods"})
    world.wait_ready("sql")
    with RoutedTraffic(f"http://127.0.0.1:{port}", world.namespace, ("sql",)) as traffic:
        traffic.more()
        for number, pod in enumerate(("vllm-0", "vllm-1")):
            world.pods.kill_container(world.namespace, pod)
            traffic.until(lambda copy: len(copy.pods(world.namespace, "sql")) == 2)
            traffic.until(lambda copy: len(copy.pods(world.namespace, "sql")) == 3)
            versions.add(publish(world, "sql", number + 1))
            wait_rolled_out(world, "sql")
            traffic.more()
        tally = traffic.tally
    assert not tally.wrong and not tally.gaps
    assert set(tally.statuses) == {200}
    assert set(tally.broken) <= {"vllm-0", "vllm-1"}
    assert tally.weights["sql"] == versions


def test_the_leader_who_stands_by_and_a_router_of_its_own_answer_alike(worlds: Worlds, reader: Path) -> None:
    world = worlds(2, operator=())
    first, second = world.operator, world.start_operator(identity="another")
    assert first is not None
    try:
        world.adapter("sql")
        world.apply("sql", "sql", deployment={"replicas": 2})
        world.wait_ready("sql")
        urls = [f"http://127.0.0.1:{one.router_port}" for one in (first, second)]

        def pods(url: str) -> list[str]:
            found = get(f"{url}/v1/adapters?namespace={world.namespace}&baseModel=tiny")["adapters"]
            return [one["pod"] for adapter in found for one in adapter["pods"]]

        for url in urls:
            eventually(lambda url=url: pods(url) == ["vllm-0", "vllm-1"], what=[f"{url} knows"])  # type: ignore[misc]
        world.kubectl("delete", "la", "sql")
        for url in urls:
            eventually(lambda url=url: pods(url) == [], what=[f"{url} has forgotten"])  # type: ignore[misc]
        # of what is loaded on demand, a router of its own asks with its own rights, and no others
        world.adapter("lazy")
        world.apply("lazy", "lazy", deployment={"loadOnStartup": False})
        with a_router(world, reader, free_ports(1)[0]) as (url, _):
            eventually(lambda: pick_at(url, world, "lazy", 20.0)[0] == 200, what=["it is loaded when asked for"])
            urls.append(url)
            for each in urls:
                eventually(lambda each=each: len(pods(each)) == 1, what=[f"{each} knows"])  # type: ignore[misc]
            assert "standing by" in second.tail() and "started:" not in second.tail()
            # with nobody left who leads, a container that is restarted has nothing: its pod is named no longer
            first.kill()
            second.kill()
            (holder,) = pods(url)
            world.pods.kill_container(world.namespace, holder)
            lazy = f"{url}/v1/adapters/lazy/pods"
            restarted = [{"pod": holder, "state": "Restarted"}]
            eventually(lambda: get(lazy).get("withheld") == restarted, what=["it is withheld though it is ready"])
            assert get(lazy)["pods"] == []
    finally:
        second.stop()
