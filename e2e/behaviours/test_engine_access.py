"""Engines that want an API key, and engines that may not be changed at run time."""

from __future__ import annotations

import json

from e2e.behaviours.seen import log_of
from e2e.behaviours.worlds import Worlds
from e2e.world import World
from e2e.world.world import ROOT, assigned, condition, failed

SAMPLE = ROOT / "manifests" / "samples" / "engine-api-key.yaml"
FROM_SECRET = {"VLLM_API_KEY": {"secretKeyRef": {"name": "vllm-api-key", "key": "api-key"}}}


def _set_secret(world: World, value: str) -> None:
    made = world.kubectl(
        "create",
        "secret",
        "generic",
        "vllm-api-key",
        f"--from-literal=api-key={value}",
        "--dry-run=client",
        "-o",
        "json",
    )
    world.kubectl("apply", "-f", "-", input=made)


def _everything_said(world: World) -> str:
    """Status, Events and log: wherever a secret must not be."""
    objects = world.kubectl("get", "la,events", "-o", "json")
    return objects + log_of(world)


def test_an_engine_whose_key_is_in_its_pod_is_used_with_it(worlds: Worlds) -> None:
    world = worlds(1, environment={"VLLM_API_KEY": "sk-plain-0123456789"})
    world.adapter("sql")
    world.apply("sql", "sql")
    assert assigned(world.wait_ready("sql")["status"]) == {"vllm-0": ["sql"]}
    assert world.engine("vllm-0", "sk-plain-0123456789").complete("sql").adapter == "sql"
    assert world.engine("vllm-0").complete("sql").status == 401
    assert "sk-plain" not in _everything_said(world)


def test_a_key_in_a_secret_is_used_as_soon_as_the_operator_may_read_it(worlds: Worlds) -> None:
    world = worlds(0)
    _set_secret(world, "sk-first-0123456789")
    world.start_pods(1, environment=FROM_SECRET)
    world.adapter("sql")
    world.apply("sql", "sql")
    status = world.wait("sql", lambda status: failed(status) == {"sql": "Unauthorized"})["status"]
    assert "Secret vllm-api-key cannot be used: the operator may not read it" in status["failedAdapters"][0]["message"]
    assert condition(status, "Ready") == "False"

    world.kubectl("apply", "-f", str(SAMPLE))
    world.wait_ready("sql")

    # the engine keeps the key that it was started with
    world.stop_operator()
    world.kubectl("delete", "secret", "vllm-api-key")
    world.start_operator()
    status = world.wait("sql", lambda status: failed(status) == {"sql": "Unauthorized"})["status"]
    assert "Secret vllm-api-key cannot be used: there is no such Secret" in status["failedAdapters"][0]["message"]
    assert not assigned(status)
    _set_secret(world, "sk-second-0123456789")
    world.wait("sql", lambda status: "does not accept the API key" in json.dumps(status))

    _set_secret(world, "sk-first-0123456789")
    world.wait_ready("sql")
    assert "sk-first" not in _everything_said(world)
    assert "sk-second" not in _everything_said(world)


def test_an_engine_without_runtime_updating_is_said_to_be_so_and_others_are_used(worlds: Worlds) -> None:
    world = worlds(0)
    world.start_pods(1, name="off", environment={"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "False"})
    world.start_pods(1, name="unset", environment={"VLLM_ALLOW_RUNTIME_LORA_UPDATING": None})
    world.adapter("sql")
    world.apply("sql", "sql", deployment={"replicas": 2})
    status = world.wait("sql", lambda status: failed(status) == {"sql": "LoraDisabled"})["status"]
    messages = {item["pod"]: item["message"] for item in status["failedAdapters"][0]["pods"]}
    assert messages["off-0"].startswith(
        "container 'vllm' has VLLM_ALLOW_RUNTIME_LORA_UPDATING='False'; set it to True, or if it has it all the same"
    )
    assert "set the environment variable VLLM_ALLOW_RUNTIME_LORA_UPDATING=True" in messages["unset-0"]
    assert world.engine("unset-0").calls().get("other", 0) <= 1

    world.start_pods(2, name="on")
    status = world.wait_ready("sql")["status"]
    assert sorted(assigned(status)) == ["on-0", "on-1"]
