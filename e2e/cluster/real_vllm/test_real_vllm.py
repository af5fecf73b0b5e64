"""Real vLLM serves what LoraAdapters say, and goes on doing so while its pods come and go."""

from __future__ import annotations

import requests

from e2e.cluster.behaviours.installation import STATEFULSET, Installation
from e2e.cluster.behaviours.users import Table, container, users
from e2e.cluster.real_vllm.conftest import START_SECONDS
from e2e.cluster.sample import ADAPTER, BASE_MODEL, TEAM
from e2e.world.rest import Json


def completion(pod: Json, model: str) -> Json:
    """Twelve tokens of what this pod answers; this machine has a route to it."""
    body: Json = {"model": model, "prompt": "The operator keeps", "max_tokens": 12, "temperature": 0, "logprobs": 0}
    answer = requests.post(f"http://{pod['status']['podIP']}:8000/v1/completions", json=body, timeout=60)
    answer.raise_for_status()
    return dict(answer.json()["choices"][0])


def test_adapter_from_s3_changes_what_vllm_answers(installed: Installation) -> None:
    pods = installed.wait_pods(2)
    assert {one["pod"] for one in installed.status(ADAPTER)["podAssignments"]} == {
        pod["metadata"]["name"] for pod in pods
    }
    with_it = [completion(pod, ADAPTER)["logprobs"]["token_logprobs"] for pod in pods]
    without = completion(pods[0], BASE_MODEL)["logprobs"]["token_logprobs"]
    assert with_it[0] == with_it[1]
    assert with_it[0] != without


def test_rolling_update_under_requests(installed: Installation, table: Table) -> None:
    before = {pod["metadata"]["uid"] for pod in installed.wait_pods(2)}
    with users(installed, table, "real vLLM: rolling update"):
        installed.kube.run("rollout", "restart", f"statefulset/{STATEFULSET}", namespace=TEAM)
        installed.kube.run(
            "rollout", "status", f"statefulset/{STATEFULSET}", f"--timeout={START_SECONDS}s", namespace=TEAM
        )
        installed.wait_adapter(ADAPTER)
    assert before.isdisjoint(pod["metadata"]["uid"] for pod in installed.pods())


def test_killed_engine_comes_back_with_its_adapter(installed: Installation, table: Table) -> None:
    pod = installed.wait_pods(2)[1]
    before = container(pod, "vllm")
    assert installed.kube.cluster is not None
    node = next(one for one in installed.kube.cluster.nodes() if one.layout.name == pod["spec"]["nodeName"])
    with users(installed, table, "real vLLM: killed (SIGKILL)"):
        node.kill_container(before["containerID"].rpartition("/")[2])
        installed.kube.wait(
            TEAM, pod["metadata"]["name"],
            lambda now: container(now, "vllm")["restartCount"] > before["restartCount"]
            and container(now, "vllm")["ready"], timeout=START_SECONDS,
        )  # fmt: skip
        installed.wait_pods(2)
        installed.wait_adapter(ADAPTER)
        assert completion(installed.wait_pods(2)[1], ADAPTER)["text"]
