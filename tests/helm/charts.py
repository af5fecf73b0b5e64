"""Renders a chart, for the tests of this folder."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from e2e.controlplane.helm import run_helm

ROOT = Path(__file__).parents[2]
OPERATOR = ROOT / "helm" / "lora-operator"
PODS = ROOT / "helm" / "vllm-lora"
SYSTEM = "lora-operator-system"
VALUE_SETS = sorted((ROOT / "helm").glob("*/ci/*.yaml"))

Json = dict[str, Any]


def template(chart: Path, tmp_path: Path, values: Mapping[str, Any] | None = None, *more: str) -> list[Json]:
    """What `helm template` gives for these values. Raises HelmError with what Helm says."""
    file = tmp_path / "values.json"
    file.write_text(json.dumps(values or {}))
    name = "lora-operator" if chart == OPERATOR else "vllm"
    text = run_helm("template", name, str(chart), "--namespace", SYSTEM, "--values", str(file), *more)
    return [one for one in yaml.safe_load_all(text) if one]


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
