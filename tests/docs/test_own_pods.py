"""What the page on pods of one's own tells people to add makes a pod that takes part, and that the API server takes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.controlplane import ControlPlane
from lora_operator.informers.pod_description import PodDefaults, PodDescription, describe
from tests.docs.pages import ROOT

PAGE = (ROOT / "docs" / "own-pods.md").read_text()
ARGUMENTS = ["meta-llama/Llama-3.1-8B-Instruct", "--enable-lora", "--max-loras=4", "--max-cpu-loras=16"]
ENGINE: dict[str, Any] = {"name": "vllm", "image": "vllm/vllm-openai:v0.32.0", "args": ARGUMENTS}


def the(mark: str) -> dict[str, Any]:
    (text,) = re.findall(rf"<!-- {mark} -->\n```yaml\n(.*?)```", PAGE, re.S)
    found: dict[str, Any] = yaml.safe_load(text)
    return found


def described(template: dict[str, Any]) -> PodDescription:
    metadata = {"name": "p", "namespace": "n", **template["metadata"]}
    return describe({"metadata": metadata, "spec": template["spec"]}, PodDefaults())


@pytest.mark.cluster
def test_a_deployment_that_is_patched_with_it_takes_part(
    control_plane: ControlPlane, namespace: str, tmp_path: Path
) -> None:
    labels = {"app": "my-vllm"}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [ENGINE]}}
    spec = {"replicas": 0, "selector": {"matchLabels": labels}, "template": template}
    deployment = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "my-vllm"}, "spec": spec}
    control_plane.kubectl("apply", "-f", "-", input=json.dumps(deployment), namespace=namespace)
    file = tmp_path / "agent.yaml"
    file.write_text(yaml.safe_dump({"spec": {"template": the("agent")}}))
    (command,) = re.findall(r"^kubectl -n team-a (patch deployment my-vllm .*)=agent\.yaml$", PAGE, re.M)
    control_plane.kubectl(*f"{command}={file}".split(), namespace=namespace)
    got = json.loads(control_plane.kubectl("get", "deployment", "my-vllm", "-o", "json", namespace=namespace))
    seen = described(got["spec"]["template"])
    assert (seen.opted_in, seen.lora_disabled, seen.problems) == (True, None, ())
    assert (seen.base_models, seen.max_cpu_loras, seen.agent_port) == ((ARGUMENTS[0],), 16, 8090)
    assert seen.memory_bytes == 4 << 30
    engine, agent = got["spec"]["template"]["spec"]["containers"]
    assert engine["args"] == ARGUMENTS and engine["volumeMounts"][0]["readOnly"]
    assert agent["name"] == "agent"


def test_the_agent_is_the_one_of_the_sample() -> None:
    (sample,) = [
        one
        for one in yaml.safe_load_all((ROOT / "manifests" / "samples" / "vllm-agent.yaml").read_text())
        if one["kind"] == "StatefulSet"
    ]
    (theirs,) = [one for one in sample["spec"]["template"]["spec"]["containers"] if one["name"] == "agent"]
    (ours,) = [one for one in the("agent")["spec"]["containers"] if one["name"] == "agent"]
    assert {**ours, "image": "", "args": ""} == {**theirs, "image": "", "args": ""}
    assert set(theirs["args"]) <= set(ours["args"])


def test_agents_work_as_native_sidecars_too() -> None:
    template = the("agent")
    _, agent = template["spec"]["containers"]
    spec = {"containers": [ENGINE], "initContainers": [{**agent, "restartPolicy": "Always"}]}
    assert described({**template, "spec": spec}).agent_port == 8090


def test_what_goes_into_other_projects_resources_names_our_label_and_annotations_only() -> None:
    known = {f"production-stack.vllm-project/{name}" for name in ("agent", "lora", "lora-memory")}
    written = set(re.findall(r"\{(production-stack\.vllm-project/[a-z-]+):", PAGE))
    assert written == known
    (model,) = the("production-stack")["servingEngineSpec"]["modelSpec"]
    assert model["podLabels"] == {"production-stack.vllm-project/agent": "inject"}
