"""Renders a chart, for the tests of this folder."""

from __future__ import annotations

import argparse
import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from e2e.controlplane.helm import run_helm

Json = dict[str, Any]

ROOT = Path(__file__).parents[2]
OPERATOR = ROOT / "helm" / "lora-operator"
PODS = ROOT / "helm" / "vllm-lora"
SYSTEM = "lora-operator-system"
VALUE_SETS = sorted((ROOT / "helm").glob("*/ci/*.yaml"))
# what neither chart can know, as no image is published
NEEDED: dict[Path, Json] = {
    OPERATOR: {"image": {"repository": "registry.example.com/lora-operator"}},
    PODS: {"delivery": {"agent": {"image": "registry.example.com/lora-operator:0.1.0"}}},
}


def template(chart: Path, tmp_path: Path, values: Mapping[str, Any] | None = None, *more: str) -> list[Json]:
    """What `helm template` gives for these values, and an image unless they name one. Raises HelmError as Helm says."""
    file = tmp_path / "values.json"
    file.write_text(json.dumps(_over(NEEDED[chart], values or {})))
    name = "lora-operator" if chart == OPERATOR else "vllm"
    text = run_helm("template", name, str(chart), "--namespace", SYSTEM, "--values", str(file), *more)
    return [one for one in yaml.safe_load_all(text) if one]


def _over(below: Mapping[str, Any], above: Mapping[str, Any]) -> Json:
    """`below` with what `above` says in its place, maps merged."""
    merged = copy.deepcopy(dict(below))
    for key, value in above.items():
        under = merged.get(key)
        merged[key] = _over(under, value) if isinstance(under, dict) and isinstance(value, Mapping) else value
    return merged


def only(objects: list[Json], kind: str, name: str | None = None) -> Json:
    """The one object of this kind (and name)."""
    (found,) = [one for one in objects if one["kind"] == kind and name in (None, one["metadata"]["name"])]
    return found


def container(workload: Json, name: str) -> Json:
    """A container of a Deployment, StatefulSet or Job."""
    (found,) = [one for one in workload["spec"]["template"]["spec"]["containers"] if one["name"] == name]
    return dict(found)


def flags(parser: argparse.ArgumentParser) -> set[str]:
    """All flags of a command."""
    return {flag for action in parser._actions for flag in action.option_strings}
