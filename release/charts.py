"""`python -m release.charts --registry ghcr.io/owner` packages both charts, their image named.

In the repository the charts name no image, since nobody can know where it was pushed. The packages are in dist/charts.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
import tempfile
from pathlib import Path

import yaml

from e2e.controlplane.errors import BinariesError, HelmError
from e2e.controlplane.helm import run_helm
from release.versions import ROOT, section, versions

RESULT = ROOT / "dist" / "charts"
OPERATOR, PODS = "lora-operator", "vllm-lora"
# where the values of each chart name the operator's image: the line as it stands, and what takes the place of ""
IMAGE_LINES = {
    OPERATOR: (r'^(  repository: )""  # needed: .*$', "{registry}/lora-operator"),
    PODS: (r'^(    image: )""  # needed: .*$', "{registry}/lora-operator:{version}"),
}
REGISTRY = re.compile(r"[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]+)?(/[a-z0-9]+([._-]+[a-z0-9]+)*)*")


class ChartsError(Exception):
    """The charts cannot be packaged; the message says why."""


def prepare(source: Path, to: Path, registry: str, repository_url: str, changelog: str) -> None:
    """A copy of the chart at `source` that names its image, and what Artifact Hub shows of this version.

    Raises:
        ChartsError: `registry` is none, or the chart's values have no such line.
    """
    if not REGISTRY.fullmatch(registry):
        raise ChartsError(f"{registry!r} is no registry such as ghcr.io/owner: in lower case, without https://")
    shutil.copytree(source, to, ignore=shutil.ignore_patterns("__pycache__", "ci"))
    chart_file, values_file = to / "Chart.yaml", to / "values.yaml"
    chart = yaml.safe_load(chart_file.read_text())
    pattern, image = IMAGE_LINES[chart["name"]]
    named = image.format(registry=registry, version=chart["version"])
    values, count = re.subn(pattern, rf"\g<1>{named}", values_file.read_text(), flags=re.MULTILINE)
    if count != 1:
        raise ChartsError(f"{values_file.name} of {chart['name']} has {count} lines for the image, and must have one")
    values_file.write_text(values)
    chart_file.write_text(_released(chart, registry, repository_url, changelog))


def _released(chart: dict[str, object], registry: str, repository_url: str, changelog: str) -> str:
    version = str(chart["version"])
    images = [{"name": "lora-operator", "image": f"{registry}/lora-operator:{versions()['pyproject.toml']}"}]
    if chart["name"] == PODS:
        images.append({"name": "vllm-openai", "image": f"vllm/vllm-openai:v{chart['appVersion']}"})
    annotations = dict(chart.get("annotations") or {})  # type: ignore[call-overload]
    annotations["artifacthub.io/images"] = yaml.safe_dump(images, sort_keys=False)
    annotations["artifacthub.io/prerelease"] = str(not re.fullmatch(r"[\d.]+", version)).lower()
    if changes := _changes(section(changelog, version)):
        annotations["artifacthub.io/changes"] = yaml.safe_dump(changes, sort_keys=False, width=1000)
    links = {"home": repository_url, "sources": [repository_url]} if repository_url else {}
    return yaml.safe_dump({**chart, **links, "annotations": annotations}, sort_keys=False, width=1000)


def _changes(notes: str) -> list[dict[str, str]]:
    """Artifact Hub's list: kind and description. It knows the headings of Keep a Changelog."""
    kinds = {"added", "changed", "deprecated", "removed", "fixed", "security"}
    changes: list[dict[str, str]] = []
    kind = ""
    for line in notes.splitlines():
        if line.startswith("### "):
            kind = line.removeprefix("### ").strip().lower()
        elif kind in kinds and line.startswith("- "):
            changes.append({"kind": kind, "description": line.removeprefix("- ")})
        elif kind in kinds and line.startswith("  ") and changes:
            changes[-1]["description"] += f" {line.strip()}"
    return changes


def package(registry: str, repository_url: str, to: Path) -> list[Path]:
    """Both charts, linted, packaged and rendered once to see that they install without a value for the image.

    Raises:
        ChartsError, HelmError, BinariesError.
    """
    changelog = (ROOT / "docs" / "changelog.md").read_text()
    to.mkdir(parents=True, exist_ok=True)
    made: list[Path] = []
    with tempfile.TemporaryDirectory() as scratch:
        for name in (OPERATOR, PODS):
            chart = Path(scratch) / name
            prepare(ROOT / "helm" / name, chart, registry, repository_url, changelog)
            version = str(yaml.safe_load((chart / "Chart.yaml").read_text())["version"])
            run_helm("lint", "--strict", "--quiet", str(chart), *_values_to_render(name))
            run_helm("package", str(chart), "--destination", str(to))
            made.append(to / f"{name}-{version}.tgz")
            rendered = run_helm("template", name, str(made[-1]), *_values_to_render(name))
            if f"{registry}/lora-operator:" not in rendered:
                raise ChartsError(f"{made[-1]} renders no pod with an image of {registry}")
    return made


def _values_to_render(name: str) -> tuple[str, ...]:
    """What no chart can know: which model."""
    return ("--values", str(ROOT / "helm/examples/models-cpu.yaml")) if name == PODS else ()


def main() -> int:
    parser = argparse.ArgumentParser(prog="release.charts", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--registry", required=True, help="where images and charts are pushed, such as ghcr.io/owner")
    parser.add_argument("--source", default="", help="the repository's address, for Artifact Hub")
    parser.add_argument("--output", type=Path, default=RESULT, help="folder (default: dist/charts)")
    arguments = parser.parse_args()
    try:
        for made in package(arguments.registry.lower(), arguments.source, arguments.output):
            print(made)
    except (ChartsError, HelmError, BinariesError) as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
