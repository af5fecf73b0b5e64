"""Gateways send requests to pods that nobody has labelled only where these show that they run vLLM."""

from __future__ import annotations

from typing import Any

import pytest

from lora_operator.informers.engine_signs import serves_a_model
from lora_operator.informers.pod_description import PodDefaults, describe

MODEL = "Qwen/Qwen3-0.6B"


def a_pod(container: dict[str, Any], **metadata: dict[str, str]) -> dict[str, Any]:
    return {
        "metadata": {"name": "p", "namespace": "d", **metadata},
        "spec": {"containers": [{"name": "c", **container}]},
    }


@pytest.mark.parametrize(
    "container",
    [
        {"image": "rancher/local-path-provisioner:v0.0.30", "args": ["start", "--config", "/etc/config.json"]},
        {"image": "argoproj/argocd", "args": ["server", "--port=8080"]},
        {"image": "a/controller", "args": ["controller"]},
    ],
)
def test_other_programs_serve_no_model_whatever_their_first_argument(container: dict[str, Any]) -> None:
    pod = a_pod(container)
    assert describe(pod, PodDefaults()).base_models, "its first argument could be one"
    assert not serves_a_model(pod)
    assert serves_a_model(a_pod(container, labels={"production-stack.vllm-project/lora": "enabled"}))
    assert serves_a_model(a_pod(container, annotations={"production-stack.vllm-project/base-model": MODEL}))


@pytest.mark.parametrize(
    "container",
    [
        {"image": "vllm/vllm-openai:v0.32.0", "args": [MODEL]},
        {"image": "mirror/inference:1", "command": ["vllm", "serve", MODEL]},
        {"image": "mirror/a:1", "command": ["python3", "-m", "vllm.entrypoints.api_server"], "args": ["--model=m"]},
        {"image": "mirror/inference:1", "args": [MODEL, "--max-model-len=4096"]},
        {"name": "vllm", "image": "mirror/inference:1", "args": [MODEL]},
    ],
)  # fmt: skip
def test_pods_of_vllm_do_by_name_image_command_or_options(container: dict[str, Any]) -> None:
    assert serves_a_model(a_pod(container))


@pytest.mark.parametrize("pod", [{}, {"spec": None}, {"spec": {"containers": ["x", {"args": "start"}]}}])
def test_nonsense_serves_nothing(pod: dict[str, Any]) -> None:
    assert not serves_a_model(pod)
