"""`python -m release.versions` checks that everything that has a version has the same.

With --tag it must be that of the tag too, and the changelog must say when it was released. Prints the version.
"""

from __future__ import annotations

import argparse
import re
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
UNRELEASED = "not released yet"


def versions(root: Path = ROOT) -> dict[str, str]:
    """The version of this repository, by the place that says it; empty where the place says none."""
    operator = yaml.safe_load((root / "helm/lora-operator/Chart.yaml").read_text())
    pods = yaml.safe_load((root / "helm/vllm-lora/Chart.yaml").read_text())
    return {
        "pyproject.toml": tomllib.loads((root / "pyproject.toml").read_text())["project"]["version"],
        "lora_operator.__version__": _said(root / "operator/lora_operator/__init__.py", r'^__version__ = "(.+)"$'),
        "helm/lora-operator version": str(operator["version"]),
        "helm/lora-operator appVersion": str(operator["appVersion"]),
        "helm/vllm-lora version": str(pods["version"]),
        "Dockerfile VERSION": _said(root / "Dockerfile", r"^ARG VERSION=(.+)$"),
        "Makefile IMAGE": _said(root / "Makefile", r"^IMAGE \?= lora-operator:(.+)$"),
        "docs/changelog.md": _said(root / "docs/changelog.md", r"^## (\d\S*?),? "),
    }


def disagreements(found: Mapping[str, str], tag: str | None, changelog: str) -> list[str]:
    """What is wrong, a sentence each."""
    version = found["pyproject.toml"]
    wrong = [
        f"{place} says {said or 'no version'}, pyproject.toml {version}"
        for place, said in found.items()
        if said != version
    ]
    if tag is not None and tag != f"v{version}":
        wrong.append(f"the tag is {tag}, and pyproject.toml's version would need v{version}")
    if tag is not None and UNRELEASED in _heading(changelog, version):
        wrong.append(f"docs/changelog.md says of {version} that it is {UNRELEASED}: give the date instead")
    return wrong


def section(changelog: str, version: str) -> str:
    """What the changelog says of a version, without its heading."""
    _, _, after = changelog.partition(_heading(changelog, version) + "\n")
    return re.split(r"^## ", after, maxsplit=1, flags=re.MULTILINE)[0].strip() + "\n"


def _heading(changelog: str, version: str) -> str:
    found = re.search(rf"^## {re.escape(version)}\b.*$", changelog, re.MULTILINE)
    return found.group() if found else ""


def _said(file: Path, pattern: str) -> str:
    found = re.search(pattern, file.read_text(), re.MULTILINE)
    return found.group(1) if found else ""


def main() -> int:
    parser = argparse.ArgumentParser(prog="release.versions", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--tag", help="the tag that is released, for example v0.1.0")
    parser.add_argument("--notes", action="store_true", help="print what the changelog says of it, not the version")
    arguments = parser.parse_args()
    changelog = (ROOT / "docs/changelog.md").read_text()
    found = versions()
    if wrong := disagreements(found, arguments.tag, changelog):
        sys.stderr.write("".join(f"{one}\n" for one in wrong))
        return 1
    version = found["pyproject.toml"]
    print(section(changelog, version) if arguments.notes else version)
    return 0


if __name__ == "__main__":
    sys.exit(main())
