"""The Dockerfile fits the project, the charts and Pod Security. That it builds and runs: `make image-proof`."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import yaml

from image.locks import EXTRAS

ROOT = Path(__file__).parents[2]
TEXT = re.sub(r"\\\n", " ", (ROOT / "Dockerfile").read_text())
BUILD, RUNTIME = (stage.splitlines() for stage in TEXT.split("\nFROM ")[1:])


def arguments(instruction: str, stage: list[str]) -> list[str]:
    return [line.removeprefix(f"{instruction} ") for line in stage if line.startswith(f"{instruction} ")]


def test_the_base_image_is_pinned_by_tag_and_digest() -> None:
    (base,) = re.findall(r"^ARG PYTHON=(.*)$", TEXT, re.MULTILINE)
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-\w+@sha256:[0-9a-f]{64}", base)
    assert BUILD[0] == "${PYTHON} AS build"
    assert f'org.opencontainers.image.base.name="{base.partition("@")[0]}"' in TEXT


def test_the_image_starts_from_nothing_and_runs_no_step_there() -> None:
    assert RUNTIME[0] == "scratch"
    assert arguments("RUN", RUNTIME) == []
    assert arguments("COPY", RUNTIME) == ["--from=build /rootfs /"]


def test_every_package_is_checked_against_its_hash_or_built_from_this_repository() -> None:
    installs = [command for line in arguments("RUN", BUILD) for command in line.split("&&") if " install " in command]
    assert len(installs) == 3
    assert all("--require-hashes" in command or "--no-index" in command for command in installs)


def test_it_runs_as_the_user_of_the_charts() -> None:
    pod = yaml.safe_load((ROOT / "manifests/install/operator.yaml").read_text().split("\n---\n")[2])
    security = pod["spec"]["template"]["spec"]["securityContext"]
    assert arguments("USER", RUNTIME) == [f"{security['runAsUser']}:{security['runAsGroup']}"]


def test_the_commands_of_the_charts_are_on_its_path() -> None:
    (entrypoint,) = arguments("ENTRYPOINT", RUNTIME)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert json.loads(entrypoint)[0] in project["scripts"]
    assert "PATH=/opt/lora-operator/bin " in " ".join(arguments("ENV", RUNTIME))


def test_its_version_is_that_of_the_project_and_the_chart() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    chart = yaml.safe_load((ROOT / "helm/lora-operator/Chart.yaml").read_text())
    makefile = (ROOT / "Makefile").read_text()
    assert f"VERSION={project['version']}" in arguments("ARG", RUNTIME)
    assert chart["appVersion"] == project["version"]
    assert f"IMAGE ?= lora-operator:{project['version']}" in makefile


def test_it_has_the_labels_of_open_containers() -> None:
    labels = set(re.findall(r"org\.opencontainers\.image\.([a-z.]+)=", TEXT))
    assert labels >= {"title", "description", "licenses", "version", "revision", "source", "base.name"}


def test_it_is_built_from_what_is_let_in() -> None:
    allowed = re.findall(r"^!(.*)$", (ROOT / ".dockerignore").read_text(), re.MULTILINE)
    copied = {name for line in arguments("COPY", BUILD) for name in line.split()[:-1]}
    assert copied == set(allowed)
    assert all((ROOT / name).exists() for name in allowed)


def test_the_extras_that_may_be_chosen_are_named() -> None:
    comment = TEXT[: TEXT.index("ARG EXTRAS=")].rpartition("\n\n")[2]
    assert set(re.findall(r'"(\w+)"', comment)) == set(EXTRAS)
