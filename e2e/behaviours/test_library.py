"""The user library on a real API server: what somebody uploads answers a moment later, from an S3 store."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from e2e.behaviours.asking import pick
from e2e.behaviours.client import digest_of
from e2e.behaviours.from_stores import grant
from e2e.behaviours.worlds import Worlds
from e2e.controlplane import ControlPlane
from e2e.controlplane.processes import free_ports
from e2e.stores.s3 import KEYS, S3Server
from e2e.world import EngineProbe, World
from e2e.world.forked import ForkedCommand
from e2e.world.rest import PATIENCE_SECONDS
from e2e.world.world import eventually
from lora_operator.api.owner_names import owner_key

SECRET = "library-store"
ALICE = "token-of-alice"


class LibraryProcess:
    """`lora-operator library` for one world, as an administrator of it."""

    def __init__(self, world: World, store: S3Server) -> None:
        folder = world.directory / "library"
        folder.mkdir()
        (folder / "tokens.json").write_text(json.dumps({ALICE: {"subject": "alice"}}))
        self.log, self.port = folder / "library.log", free_ports(1)[0]
        given = [
            "library", "--kubeconfig", str(world.plane.kubeconfig), "--namespace", world.namespace,
            "--host", "127.0.0.1", "--port", str(self.port), "--metrics-port", "0",
            "--database", str(folder / "library.db"), "--store", "s3://loras/here", "--store-endpoint", store.endpoint,
            "--store-region", "us-east-1", "--credentials-secret", SECRET, "--work-folder", str(folder / "work"),
            "--token-file", str(folder / "tokens.json"), "--token-review",
            "--log-format", "console", "--base-model", f"tiny={world.model / 'config.json'}",
        ]  # fmt: skip
        self._process = ForkedCommand(given, environment=KEYS, log=self.log)
        eventually(self._ready, what=("the library is ready", str(self.log)))

    def _ready(self) -> bool:
        assert self._process.poll() is None, self.log.read_text()
        try:
            return requests.get(f"http://127.0.0.1:{self.port}/readyz", timeout=5).status_code == 200
        except OSError:
            return False

    def call(self, method: str, path: str, user: str, **options: Any) -> Any:
        """The JSON answer, which is a good one."""
        answer = requests.request(
            method, f"http://127.0.0.1:{self.port}{path}", headers={"Authorization": f"Bearer {user}"},
            timeout=PATIENCE_SECONDS, **options,
        )  # fmt: skip
        assert answer.ok, (answer.text, self.log.read_text()[-2000:])
        return answer.json() if answer.content else None

    def upload(self, adapter: Path, name: str, user: str) -> Any:
        files = [("file", (each.name, each.read_bytes())) for each in adapter.iterdir()]
        return self.call("POST", "/api/loras/upload", user, files=files, data={"name": name})

    def stop(self) -> int:
        self._process.send_signal(15)
        return self._process.wait(60)


@pytest.fixture(scope="module")
def world(plane: ControlPlane, kubeconfig: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = Worlds(plane, tmp_path_factory.mktemp("library"), kubeconfig)
    yield made(1)
    made.close()


@pytest.fixture(scope="module")
def library(world: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LibraryProcess]:
    with S3Server(tmp_path_factory.mktemp("s3")) as store:
        store.client.create_bucket(Bucket="loras")
        grant(world, SECRET, KEYS)
        running = LibraryProcess(world, store)
        yield running
        assert running.stop() == 0, running.log.read_text()


def served(world: World, model: str, weights: str) -> bool:
    """Whether a request for this model is answered, with these weights."""
    status, body = pick(world, world.operator, model, 20.0)
    return status == 200 and EngineProbe(body["address"]).complete(body["engineName"]).weights == weights


def test_what_is_uploaded_answers_is_renewed_rolled_back_and_goes(world: World, library: LibraryProcess) -> None:
    first, second = world.adapter("first"), world.adapter("second", seed=1)
    began = time.monotonic()
    made = library.upload(first, "style", ALICE)
    eventually(lambda: served(world, made["model"], digest_of(first)), what=("the upload answers",))
    print(f"from upload to answer: {time.monotonic() - began:.2f} s")
    (name,) = [each["metadata"]["name"] for each in world.rest.get(world.collection)["items"]]
    spec = world.get(name)["spec"]
    assert (spec["owner"], spec["adapterSource"]["adapters"]) == ("alice", ["style"])
    eventually(lambda: library.call("GET", made["url"], ALICE)["pods"] == ["vllm-0"], what=("it is shown where it is",))
    eventually(lambda: library.call("GET", made["url"], ALICE)["last_used_at"], what=("its use is seen",))
    assert library.call("GET", "/api/loras/me", ALICE)["uses_known"]
    assert library.upload(second, "style", ALICE)["version"] == 2
    eventually(lambda: served(world, made["model"], digest_of(second)), what=("the second version answers",))
    library.call("PATCH", made["url"], ALICE, json={"version": 1})
    eventually(lambda: served(world, made["model"], digest_of(first)), what=("the first version answers again",))
    library.call("DELETE", made["url"], ALICE)
    world.wait_gone(name)
    eventually(lambda: made["model"] not in str(world.engine("vllm-0").models()), what=("the engine has unloaded it",))


def test_two_users_adapters_of_one_name_are_two_and_a_pods_own_account_is_a_user_too(
    world: World, library: LibraryProcess
) -> None:
    hers, its = world.adapter("hers", seed=2), world.adapter("its", seed=3)
    world.kubectl("create", "serviceaccount", "trainer")
    trainer = world.kubectl("create", "token", "trainer").strip()
    alice, training = library.upload(hers, "poem", ALICE), library.upload(its, "poem", trainer)
    assert training["owner"] == f"system:serviceaccount:{world.namespace}:trainer"
    for made, adapter in ((alice, hers), (training, its)):
        eventually(lambda: served(world, made["model"], digest_of(adapter)), what=("each calls their own",))  # noqa: B023
    owners = {each["spec"]["owner"] for each in world.rest.get(world.collection)["items"]}
    assert owners == {"alice", owner_key(training["owner"])}
    url = f"http://127.0.0.1:{library.port}{alice['url']}"
    for token, status in ((trainer, 404), (f"{trainer[:-4]}AAAA", 401), (ALICE, 200)):
        headers = {"Authorization": f"Bearer {token}"}
        assert requests.get(url, headers=headers, timeout=PATIENCE_SECONDS).status_code == status
    for made, user in ((alice, ALICE), (training, trainer)):
        library.call("DELETE", f"{made['url']}?purge=true", user)
