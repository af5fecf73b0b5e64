"""Adapters of a web server, brought by the pods' agents: fetched once, kept, early, and refused where they are bad."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.behaviours.from_stores import apply, everything_said, grant, offer, source_ready
from e2e.behaviours.worlds import Worlds
from e2e.controlplane import ControlPlane
from e2e.demo.uploads import WebUpload
from e2e.world import World
from e2e.world.world import assigned, eventually

TOKEN = "w3b-t0ken-of-the-source"


@pytest.fixture(scope="module")
def shared_world(plane: ControlPlane, kubeconfig: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = Worlds(plane, tmp_path_factory.mktemp("agents"), kubeconfig)
    yield made(2, agent=())
    made.close()


@pytest.fixture
def world(shared_world: World, store: WebUpload) -> Iterator[World]:
    """Two pods with agents that share a disk; empty of LoraAdapters before and after."""
    store.server.token = None
    yield shared_world
    shared_world.clear()


def test_an_adapter_of_a_web_server_is_fetched_once_for_a_node_and_answers(world: World, store: WebUpload) -> None:
    apply(world, "once", offer(world, store, "once"), replicas=2)
    status = world.wait_ready("once")["status"]
    assert {name for names in assigned(status).values() for name in names} == {"once"}
    assert len(assigned(status)) == 2
    version = status["adapters"][0]["fingerprint"]
    weights = world.disk / "once" / version / "adapter_model.safetensors"
    assert weights.stat().st_mode & 0o777 == 0o444
    assert not (world.volume / "once").exists()
    log = "".join(path.read_text() for path in world.directory.rglob("agent.log"))
    assert 1 <= log.count("fetched once") <= 2
    assert store.server.sent_bytes < 3 * weights.stat().st_size


def test_a_new_version_at_the_source_is_rolled_out(world: World, store: WebUpload) -> None:
    apply(world, "renewed", offer(world, store, "renewed"))
    before = world.wait_ready("renewed")["status"]["adapters"][0]["fingerprint"]
    offer(world, store, "renewed", seed=7)
    after = world.wait("renewed", lambda status: status["adapters"][0]["fingerprint"] != before)
    world.wait_ready("renewed")
    assert after["status"]["adapters"][0]["fingerprint"] != before


def test_a_source_with_a_token_is_read_with_that_of_the_secret_and_no_agent_gets_it(
    world: World, store: WebUpload
) -> None:
    store.server.token = TOKEN
    apply(world, "closed", offer(world, store, "closed"), secret="source")
    refused = world.wait("closed", lambda status: source_ready(status)[1] in ("SecretNotFound", "SecretForbidden"))
    assert refused["status"]["phase"] == "Failed"
    grant(world, "source", {"token": TOKEN})
    body = world.wait("closed", lambda status: "--secrets-to-agents" in json.dumps(status.get("failedAdapters")))
    assert source_ready(body["status"])[0] == "True"
    assert TOKEN not in json.dumps(body) + everything_said(world)


def test_an_agent_gets_the_token_of_a_source_where_that_is_allowed_and_shows_it_nowhere(
    plane: ControlPlane, kubeconfig: Path, tmp_path: Path, store: WebUpload
) -> None:
    made = Worlds(plane, tmp_path, kubeconfig)
    try:
        world = made(1, agent=(), operator=("--secrets-to-agents",))
        store.server.token = TOKEN
        grant(world, "source", {"token": TOKEN})
        apply(world, "closed", offer(world, store, "closed"), secret="source")
        body = world.wait_ready("closed")
        said = everything_said(world)
        assert "fetched closed" in said and TOKEN not in said + json.dumps(body)
    finally:
        made.close()


def test_a_pod_whose_agent_and_engine_were_restarted_gets_its_adapters_without_a_byte_over_the_network(
    world: World, store: WebUpload
) -> None:
    apply(world, "warm", offer(world, store, "warm"))
    (pod,) = assigned(world.wait_ready("warm")["status"])
    read = store.read("warm/adapter_model.safetensors")
    for container in ("agent", "vllm"):
        world.pods.kill_container(world.namespace, pod, container)
    world.pods.wait_restarted(world.namespace, pod, container="agent")
    world.pods.wait_restarted(world.namespace, pod)
    world.wait("warm", lambda status: bool(status.get("podAssignments")))
    world.wait_ready("warm")
    assert store.read("warm/adapter_model.safetensors") == read


def test_a_pod_with_an_agent_says_that_it_cannot_have_adapters_of_a_local_folder(world: World) -> None:
    world.adapter("here")
    world.apply("here", "here")
    status = world.wait("here", lambda status: bool(status.get("failedAdapters")))["status"]
    assert "cannot read folders of the operator" in status["failedAdapters"][0]["message"]


def test_a_pod_has_the_files_before_its_engine_is_up(world: World, store: WebUpload) -> None:
    slow = {"speed": "slow"}
    world.start_pods(1, "--sim-startup-seconds", "600", name="slow", labels=slow, agent=(), wait=False)
    try:
        apply(world, "early", offer(world, store, "early"), podSelector={"matchLabels": slow})
        eventually(lambda: any((world.disk / "early").glob("*/adapter_model.safetensors")), what=["files are early"])
        assert world.get("early")["status"].get("podAssignments") in (None, [])
        with pytest.raises(OSError):
            world.engine("slow-0").models()
    finally:
        world.kubectl("delete", "statefulset", "slow", "--wait=false")
