"""Pods as people have them, after what is public of the projects that make them: what is said of each is right, or
unknown. Names are made up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from lora_operator.informers.pod_description import PodDefaults, PodDescription, describe
from tests.observe.pods import GROUP

OPENAI = "vllm/vllm-openai:v0.32.0"

CORPUS = sorted((Path(__file__).parent / "strangers").glob("*.yaml"))
CASES = [
    pytest.param(case, id=f"{file.stem}: {case['what']}")
    for file in CORPUS
    for case in yaml.safe_load(file.read_text())
]


def pod_of(case: dict[str, Any]) -> dict[str, Any]:
    engine = {"image": OPENAI} | case["container"]
    annotations = {f"{GROUP}/{name}": value for name, value in case.get("annotations", {}).items()}
    return {
        "metadata": {
            "namespace": "ml",
            "name": "vllm-0",
            "uid": "uid-1",
            "labels": case.get("labels", {}),
            "annotations": annotations | case.get("plain_annotations", {}),
        },
        "spec": {
            "containers": [*case.get("before", ()), engine, *case.get("others", ())],
            "initContainers": [one | {"restartPolicy": "Always"} for one in case.get("sidecars", ())],
            "volumes": case.get("volumes", []),
        },
        "status": {"phase": "Running", "podIP": "10.0.0.7"},
    }


@pytest.mark.parametrize("case", CASES)
def test_a_pod_of_somebody_elses_is_understood_or_unknown(case: dict[str, Any]) -> None:
    pod, says = describe(pod_of(case), PodDefaults()), case["says"]
    assert list(pod.base_models) == says["names"]
    assert pod.lora_enabled is says["lora"], pod.lora_disabled
    assert [pod.port, pod.scheme] == [says.get("port", 8000), says.get("scheme", "http")]
    assert [pod.port, *pod.further_ports] == says.get("ports", [pod.port])
    assert pod.container == says.get("container", case["container"]["name"])
    assert "model" not in says or pod.model == says["model"]
    assert pod.max_loras == says.get("max_loras", 1)
    assert says.get("silent", "") in pod.why_silent and bool(pod.why_silent) is ("silent" in says), pod.why_silent
    assert key_of(pod) == says.get("key", "")
    lacks = pod.workers_lack_files
    assert says.get("lacks", "") in lacks and bool(lacks) is ("lacks" in says), lacks
    assert says.get("problem", "") in "".join(pod.problems) and bool(pod.problems) is ("problem" in says), pod.problems


@pytest.mark.parametrize("case", CASES)
def test_what_is_said_to_be_wrong_has_a_remedy_and_is_overruled_by_an_annotation(case: dict[str, Any]) -> None:
    pod = describe(pod_of(case), PodDefaults())
    if wrong := pod.lora_disabled or pod.workers_lack_files:
        assert f'{GROUP}/lora-enabled: "true"' in wrong
        overruled = describe(
            pod_of(case | {"annotations": case.get("annotations", {}) | {"lora-enabled": "true"}}), PodDefaults()
        )
        assert overruled.lora_enabled and not overruled.workers_lack_files
    named = describe(
        pod_of(case | {"annotations": {"base-model": "org/said", "port": "7", "scheme": "http"}}), PodDefaults()
    )
    assert (named.base_models, named.port, named.scheme) == (("org/said",), 7, "http")


def key_of(pod: PodDescription) -> str:
    ref = pod.api_key_ref
    if ref is None or ref.secret is None:
        return ""
    return f"{ref.secret.name}/{ref.secret.key}{'?' if ref.guessed else ''}"
