"""A real API server takes what the charts render, in namespaces under Pod Security "restricted" too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from e2e.controlplane import ControlPlane
from tests.helm.charts import OPERATOR, PODS, SYSTEM, VALUE_SETS, template

pytestmark = pytest.mark.cluster

# the Prometheus operator's, which only clusters with it have
FOREIGN = {"ServiceMonitor", "PodMonitor", "PrometheusRule"}
Json = dict[str, Any]


def pods_of(objects: list[Json]) -> list[Json]:
    """The pods that the workloads among these would make."""
    made = []
    for one in objects:
        spec = one["spec"] if one["kind"] == "Pod" else one.get("spec", {}).get("template", {}).get("spec")
        if one["kind"] in ("Pod", "Deployment", "StatefulSet", "Job"):
            # whose account and class may not be there, which is not what is asked here
            plain = {
                key: value for key, value in spec.items() if key not in ("serviceAccountName", "priorityClassName")
            }
            metadata = {"name": one["metadata"]["name"]}
            made.append(
                {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"restartPolicy": "Never"} | plain}
            )
    for pod in made:
        if pod["spec"]["restartPolicy"] == "Never" and len(pod["spec"]["containers"]) == 1:
            pod["spec"]["restartPolicy"] = "Always"
    return made


def dry_run(plane: ControlPlane, objects: list[Json], namespace: str | None = None) -> str:
    document = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    command = ("apply", "--server-side", "--dry-run=server", "--force-conflicts", "-f", "-")
    return plane.kubectl(*command, input=document, namespace=namespace)


@pytest.fixture(scope="module")
def plane(control_plane: ControlPlane) -> ControlPlane:
    for name in (SYSTEM, "team-a", "team-b"):
        text = json.dumps({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        control_plane.kubectl("apply", "-f", "-", input=text)
    return control_plane


@pytest.mark.parametrize(
    "values",
    [*VALUE_SETS, OPERATOR / "values.yaml", PODS / "values.yaml"],
    ids=lambda path: f"{path.parent.name}-{path.stem}" if path.stem == "values" else path.stem,
)
def test_the_api_server_takes_what_is_rendered(plane: ControlPlane, tmp_path: Path, values: Path) -> None:
    chart = next(folder for folder in values.parents if (folder / "Chart.yaml").exists())
    more = () if values.name == "values.yaml" else ("--values", str(values))  # the defaults count in any case
    objects = template(chart, tmp_path, None, *more)
    served = [one for one in objects if one["kind"] not in FOREIGN]
    for one in served:
        if one["kind"] == "PersistentVolumeClaim":
            # one that another test of this session made could not be changed to what these values say
            one["metadata"]["name"] += "-tried"
    if served:
        assert dry_run(plane, served).count("(server dry run)") == len(served)


@pytest.mark.parametrize("values", [None, "everything.yaml", "narrow.yaml"])
def test_the_operators_pods_are_as_restricted_as_can_be(
    plane: ControlPlane, namespace: str, tmp_path: Path, values: str | None
) -> None:
    plane.kubectl("label", "namespace", namespace, "pod-security.kubernetes.io/enforce=restricted")
    more = () if values is None else ("--values", str(OPERATOR / "ci" / values))
    pods = pods_of(template(OPERATOR, tmp_path, None, *more))
    optional = ["lora-operator-gateway", "lora-operator-library"] if values == "everything.yaml" else []
    assert [pod["metadata"]["name"] for pod in pods] == [
        *optional, "lora-operator", "lora-operator-router", "lora-operator-test", "lora-operator-let-go",
    ]  # fmt: skip
    assert dry_run(plane, pods, namespace).count("(server dry run)") == len(pods)


@pytest.mark.parametrize(
    ("kind", "level", "taken"),
    [("podDisk", "baseline", True), ("sharedVolume", "baseline", True), ("nodeDisk", "baseline", False)],
)
def test_vllm_pods_are_within_the_baseline_but_for_the_nodes_disk(
    plane: ControlPlane, namespace: str, tmp_path: Path, kind: str, level: str, taken: bool
) -> None:
    plane.kubectl("label", "namespace", namespace, f"pod-security.kubernetes.io/enforce={level}")
    values = {"models": [{"name": "llama", "model": "m"}], "delivery": {"kind": kind}}
    (pod,) = pods_of(template(PODS, tmp_path, values))
    text = plane.kubectl(
        "apply", "--server-side", "--dry-run=server", "-f", "-", input=json.dumps(pod), namespace=namespace, check=False
    )
    assert ("violates PodSecurity" in text, "(server dry run)" in text) == (not taken, taken)
