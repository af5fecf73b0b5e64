"""Adapters of S3, Azure and Hugging Face: brought by agents and onto the volume, renewed, refused, without a secret."""

from __future__ import annotations

import base64
import re
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from e2e.behaviours.from_stores import apply, everything_said, grant, offer, refresh, source_ready
from e2e.behaviours.worlds import Worlds
from e2e.controlplane import ControlPlane
from e2e.demo.uploads import TOKEN, UPLOADS, HubUpload, Upload
from e2e.stores.azure import ACCOUNT, AzuriteUnavailable
from e2e.world import World
from e2e.world.world import assigned

NEW_TOKEN = "hf_theNextTokenOfTheHub"
WRONG_TOKEN = "hf_aTokenThatNobodyKnows"
WRONG_KEY = base64.b64encode(b"a key that no account has").decode()
SIGNATURES = r"X-Amz-Signature=|X-Amz-Credential=|[?&]sig=|[?&]Signature=|Bearer [A-Za-z0-9_-]{8}"


@pytest.fixture(scope="module")
def world(plane: ControlPlane, kubeconfig: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A pod with an agent, one that mounts the volume, and an operator that looks at sources once, or when told to."""
    made = Worlds(plane, tmp_path_factory.mktemp("stores"), kubeconfig)
    world = made(1, operator=("--source-seconds", "3600"), name="plain", max_cpu_loras=16)
    world.start_pods(1, name="agents", agent=(), max_cpu_loras=16)
    yield world
    made.close()


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Upload]]:
    """Starts a store when it is asked for, and skips where it cannot be had."""
    started: dict[str, Upload] = {}

    def store(kind: str) -> Upload:
        if kind not in started:
            try:
                started[kind] = UPLOADS[kind](tmp_path_factory.mktemp(kind))
            except AzuriteUnavailable as error:
                pytest.skip(str(error))
        return started[kind]

    yield store
    for each in started.values():
        each.close()


@pytest.mark.parametrize("kind", sorted(UPLOADS))
def test_adapters_of_a_store_come_to_all_pods_and_a_new_version_follows_when_it_is_asked_for(
    world: World, stores: Callable[[str], Upload], kind: str
) -> None:
    store, name = stores(kind), f"sql-{kind}"
    grant(world, f"{kind}-credentials", store.secret)
    source = offer(world, store, name)
    apply(world, name, source, secret=f"{kind}-credentials", replicaPolicy="AllPods")
    status = world.wait_ready(name)["status"]
    assert assigned(status).keys() == {"plain-0", "agents-0"}
    before = status["adapters"][0]["fingerprint"]
    for root in (world.disk, world.volume):
        assert (root / name / before / "adapter_model.safetensors").exists()
    offer(world, store, name, seed=7)
    refresh(world, name)
    after = world.wait(name, lambda status: status["adapters"][0]["fingerprint"] != before)
    world.wait_ready(name)
    answer = world.engine("agents-0").complete(name)
    assert answer.status == 200 and after["status"]["adapters"][0]["fingerprint"] != before


def test_a_rotated_secret_is_picked_up_and_nothing_is_unloaded_meanwhile(
    world: World, stores: Callable[[str], Upload]
) -> None:
    store = stores("hf")
    assert isinstance(store, HubUpload)
    source = offer(world, store, "rotated")
    grant(world, "rotating", {"token": WRONG_TOKEN})
    apply(world, "rotated", source, secret="rotating")
    refused = world.wait("rotated", lambda status: source_ready(status)[0] == "False")["status"]
    assert source_ready(refused)[1] == "AuthenticationFailed" and refused["phase"] == "Failed"
    grant(world, "rotating", {"token": TOKEN})
    before = assigned(world.wait_ready("rotated")["status"])
    roots = {pod: world.engine(pod).models()["rotated"] for pod in before}
    store.allow(NEW_TOKEN)
    refresh(world, "rotated")
    old = world.wait("rotated", lambda status: source_ready(status) == ("False", "AuthenticationFailed"))["status"]
    assert assigned(old) == before
    grant(world, "rotating", {"token": NEW_TOKEN})
    new = world.wait("rotated", lambda status: source_ready(status)[0] == "True")["status"]
    assert assigned(new) == before
    assert {pod: world.engine(pod).models()["rotated"] for pod in before} == roots
    store.allow(TOKEN)


def test_what_is_wrong_with_a_source_is_its_reason(world: World, stores: Callable[[str], Upload]) -> None:
    hub, s3 = stores("hf"), stores("s3")
    grant(world, "half", {"AWS_ACCESS_KEY_ID": s3.secret["AWS_ACCESS_KEY_ID"]})
    grant(world, "whole", s3.secret)
    grant(world, "reader", hub.secret)
    wrong: dict[str, tuple[dict[str, object], str | None, str]] = {
        "no-bucket": ({**s3.source("x"), "repository": "no-such-bucket/x"}, "whole", "BucketNotFound"),
        "half-a-key": (s3.source("x"), "half", "CredentialsIncomplete"),
        "no-repository": ({**hub.source("x"), "repository": "acme/none"}, "reader", "RepositoryNotFound"),
        "no-secret": (hub.source("sql-hf"), "is-not-there", "SecretForbidden"),
        "no-host": ({"type": "http", "repository": "http://nothing.invalid/x/"}, None, "HostNotFound"),
        "metadata": ({"type": "http", "repository": "http://169.254.169.254/x/"}, None, "ForbiddenAddress"),
    }
    for name, (source, secret, _) in wrong.items():
        apply(world, name, source, secret=secret)
    said = {
        name: source_ready(world.wait(name, lambda status: source_ready(status)[0] == "False")["status"])[1]
        for name in wrong
    }
    assert said == {name: reason for name, (_, _, reason) in wrong.items()}


def test_a_wrong_key_of_azure_and_a_container_that_is_missing_are_reasons(
    world: World, stores: Callable[[str], Upload]
) -> None:
    azure = stores("azure")
    grant(world, "azure-wrong", {"AZURE_STORAGE_ACCOUNT_KEY": WRONG_KEY})
    grant(world, "azure-right", azure.secret)
    apply(world, "wrong-key", azure.source("sql-azure"), secret="azure-wrong")
    apply(world, "no-container", {**azure.source("x"), "repository": f"{ACCOUNT}/nothing/x"}, secret="azure-right")
    for name, reason in (("wrong-key", "AccessDenied"), ("no-container", "ContainerNotFound")):
        status = world.wait(name, lambda status: source_ready(status)[0] == "False")["status"]
        assert source_ready(status)[1] == reason


def test_no_secret_and_no_signed_link_was_shown_anywhere(world: World, stores: Callable[[str], Upload]) -> None:
    said = everything_said(world) + _agent_metrics(world) + _command_lines(world)
    assert "fetched sql-" in said and "lora_operator_fetched_bytes_total" in said
    values: dict[str, Any] = {"token": TOKEN, "new": NEW_TOKEN, "wrong": WRONG_TOKEN, "key": WRONG_KEY}
    for kind in ("s3", "hf"):
        values |= {f"{kind} {key}": value for key, value in stores(kind).secret.items()}
    values |= {"agents": world.token_file.read_text()}
    shown = [what for what, value in values.items() if value in said]
    assert shown == []
    assert re.findall(SIGNATURES, said) == []


def _agent_metrics(world: World) -> str:
    address = world.pods.address_of(world.namespace, "agents-0")
    with urllib.request.urlopen(f"http://{address}:8090/metrics", timeout=5) as answer:
        return str(answer.read().decode())


def _command_lines(world: World) -> str:
    found = (process.info["cmdline"] or () for process in psutil.process_iter(["cmdline"]))
    return "\n".join(" ".join(line) for line in found if any(world.namespace in word for word in line))
