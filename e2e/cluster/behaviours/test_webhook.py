"""The webhook that injects agents, called by the API server: while it is away, and while its certificate changes."""

from __future__ import annotations

import ssl
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from e2e.cluster.behaviours.installation import OPERATOR_RELEASE, SYSTEM, Installation
from e2e.cluster.behaviours.test_own_pods import NAME, a_deployment
from e2e.cluster.sample import TEAM
from e2e.world.rest import Json
from e2e.world.world import eventually

WEBHOOK: Json = {"agentInjection": {"by": "webhook"}}
SECRET = f"{OPERATOR_RELEASE}-webhook"
RENEW_AT = "production-stack.vllm-project/renew-at"
PORT = 9443
KUBELET_SECONDS = 240.0  # it brings Secrets to pods within two minutes


@pytest.fixture(scope="module")
def hooked(installed: Installation) -> Iterator[Installation]:
    installed.upgrade_operator("--wait", "--timeout", "300s", **WEBHOOK)
    yield installed
    installed.kube.run("delete", f"deployment/{NAME}", "--ignore-not-found", namespace=TEAM)
    installed.upgrade_operator("--wait", "--timeout", "300s")


def initial_containers(pod: Json) -> list[str]:
    return [one["name"] for one in pod["spec"].get("initContainers", ())]


def pods_made(installed: Installation) -> list[Json]:
    installed.kube.run("rollout", "status", f"deployment/{NAME}", "--timeout=180s", namespace=TEAM)
    return [one for one in installed.kube.pods(TEAM, f"app={NAME}") if "deletionTimestamp" not in one["metadata"]]


@contextmanager
def asking_for_agents(installed: Installation) -> Iterator[Counter[str]]:
    """Pods are made all the while, though none is kept; counts what the API server has put into them."""
    template = a_deployment("inject")["spec"]["template"]
    pod = {"apiVersion": "v1", "kind": "Pod", **template}
    pod["metadata"] = {"name": "asking", **template["metadata"]}
    made: Counter[str] = Counter()
    end = threading.Event()

    def ask() -> None:
        while not end.is_set():
            got = installed.kube.rest.create(f"/api/v1/namespaces/{TEAM}/pods?dryRun=All", pod)
            made[" ".join(initial_containers(got)) or "nothing"] += 1
            end.wait(0.1)

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield made
    finally:
        end.set()
        thread.join()


def shown_certificates(installed: Installation) -> set[str]:
    """Of each operator that runs."""
    selector = "app.kubernetes.io/name=lora-operator,app.kubernetes.io/component=operator"
    pods = installed.kube.pods(SYSTEM, selector)
    return {ssl.get_server_certificate((one["status"]["podIP"], PORT)).strip() for one in pods}


def test_pods_come_without_an_agent_while_no_operator_answers_and_with_one_afterwards(hooked: Installation) -> None:
    hooked.scale_operator(0)
    hooked.wait_no_operator()
    try:
        hooked.kube.apply(a_deployment("inject"))
        (pod,) = pods_made(hooked)
        assert initial_containers(pod) == []
    finally:
        hooked.scale_operator(2)
    hooked.kube.run("rollout", "restart", f"deployment/{NAME}", namespace=TEAM)
    (pod,) = pods_made(hooked)
    assert initial_containers(pod) == ["lora-agent"]


@pytest.mark.timeout(600)
def test_certificate_is_renewed_by_an_upgrade_and_no_pod_comes_without_an_agent_meanwhile(hooked: Installation) -> None:
    if hooked.kube.cluster is None:
        pytest.skip("this machine has no route to the pods of that cluster")
    secret = f"/api/v1/namespaces/{SYSTEM}/secrets/{SECRET}"
    before = shown_certificates(hooked)
    assert len(before) == 1
    with asking_for_agents(hooked) as made:
        hooked.upgrade_operator("--wait", "--timeout", "300s", **WEBHOOK)
        assert shown_certificates(hooked) == before, "an upgrade before half of its life is over keeps it"
        hooked.kube.rest.patch(secret, {"metadata": {"annotations": {RENEW_AT: str(int(time.time()) - 1)}}})
        hooked.upgrade_operator("--wait", "--timeout", "300s", "--force-conflicts", **WEBHOOK)  # with this very test
        eventually(
            lambda: len(shown := shown_certificates(hooked)) == 1 and shown.isdisjoint(before),
            KUBELET_SECONDS,
            what=("all operators show the new certificate",),
        )
        seen = made.total()
        eventually(lambda: made.total() > seen + 20, what=("pods are made with the new certificate",))
    assert set(made) == {"lora-agent"}, made
