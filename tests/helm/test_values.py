"""What only the user knows is asked for, sizes are Kubernetes' own, and values of an older chart are noticed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from e2e.controlplane.errors import HelmError
from e2e.controlplane.helm import run_helm
from tests.helm.charts import OPERATOR, PODS, container, only, template

LLAMA = {"name": "llama", "model": "m"}
DIGEST = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_an_image_that_is_not_published_has_to_be_named(tmp_path: Path) -> None:
    with pytest.raises(HelmError, match=r"image\.repository is not set, and no image is published: name the one"):
        run_helm("template", "lora-operator", str(OPERATOR))
    file = tmp_path / "models.yaml"
    file.write_text("models: [{name: llama, model: m}]")
    with pytest.raises(HelmError, match=r"model llama: delivery\.agent\.image is not set, and no image is published"):
        run_helm("template", "vllm", str(PODS), "--values", str(file))
    without_agents = ("--set", "delivery.kind=sharedVolume")
    assert "kind: StatefulSet" in run_helm("template", "vllm", str(PODS), "--values", str(file), *without_agents)


def test_images_may_be_pinned_by_digest(tmp_path: Path) -> None:
    objects = template(OPERATOR, tmp_path, {"image": {"digest": DIGEST, "tag": "9.9.9"}})
    images = {
        one["image"]
        for workload in objects
        if workload["kind"] in ("Deployment", "Job")
        for one in workload["spec"]["template"]["spec"]["containers"]
    } | {one["image"] for one in only(objects, "Pod")["spec"]["containers"]}
    assert images == {f"registry.example.com/lora-operator@{DIGEST}"}
    with pytest.raises(HelmError, match="does not match pattern"):
        template(OPERATOR, tmp_path, {"image": {"digest": "latest"}})


@pytest.mark.parametrize("size", ["256Ki", "512k", "4Gi", "1.5G", 1073741824])
def test_a_size_is_a_quantity_as_kubernetes_has_them(tmp_path: Path, size: str | int) -> None:
    values = {
        "models": [LLAMA | {"loraConfig": {"memory": size}, "shmSize": size}],
        "delivery": {"size": size, "cacheBytes": size},
    }
    pod = only(template(PODS, tmp_path, values), "StatefulSet")["spec"]["template"]
    assert pod["metadata"]["annotations"]["production-stack.vllm-project/lora-memory"] == str(size)
    assert {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": size}} in pod["spec"]["volumes"]
    assert f"--cache-bytes={size}" in pod["spec"]["containers"][1]["args"]
    chosen = {"settings": {"cacheBytes": size}, "adapterVolume": {"size": size}}
    assert (
        f"--cache-bytes={size}"
        in container(only(template(OPERATOR, tmp_path, chosen), "Deployment", "lora-operator"), "operator")["args"]
    )


@pytest.mark.parametrize("size", ["256ki", "4 GB", "4K", "4GiB", "-1Gi"])
def test_what_the_operator_would_not_understand_is_refused_at_once(tmp_path: Path, size: str) -> None:
    with pytest.raises(HelmError, match="does not match pattern"):
        template(PODS, tmp_path, {"models": [LLAMA | {"loraConfig": {"memory": size}}]})


@pytest.mark.parametrize("chart", [OPERATOR, PODS], ids=lambda chart: chart.name)
def test_values_of_an_older_chart_are_noticed(tmp_path: Path, chart: Path) -> None:
    """As `helm upgrade --reuse-values` has them: what the new chart has added is not there."""
    values: dict[str, Any] = yaml.safe_load((chart / "values.yaml").read_text())
    added = "flowSchema" if chart == OPERATOR else "modelDefaults.shutdown"
    with pytest.raises(HelmError, match=rf"the values lack {added}, .* use --reset-then-reuse-values instead"):
        template(chart, tmp_path, {"models": [LLAMA]} if chart == PODS else None, "--set", f"{added}=null")
    assert set(values) >= {added.partition(".")[0]}


def test_what_may_be_left_out_may_be_null(tmp_path: Path) -> None:
    nulls = {"modelDefaults": {"resources": None, "affinity": None, "args": None, "env": None, "podLabels": None}}
    pod = only(template(PODS, tmp_path, {"models": [LLAMA], **nulls}), "StatefulSet")["spec"]["template"]["spec"]
    assert pod["containers"][0]["resources"] == {"limits": {"nvidia.com/gpu": "1"}}
    assert template(OPERATOR, tmp_path, {"affinity": None, "nodeSelector": None, "resources": None, "env": None})
