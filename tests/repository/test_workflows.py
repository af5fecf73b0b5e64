"""What GitHub runs: workflows that anybody may read line by line, and scripts that run anywhere."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".github"
WORKFLOWS = sorted((FOLDER / "workflows").glob("*.yaml"))
SCRIPTS = sorted((FOLDER / "scripts").iterdir())
REGISTRY = "ghcr" + ".io"  # not here as well
PINNED = re.compile(r"uses: +[\w./-]+@[0-9a-f]{40}  # v\d+\.\d+\.\d+$")
every_workflow = pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
every_script = pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)


def jobs(workflow: Path) -> dict[str, dict[str, Any]]:
    return dict(yaml.safe_load(workflow.read_text())["jobs"])


def steps(workflow: Path) -> Iterator[dict[str, Any]]:
    for job in jobs(workflow).values():
        yield from job.get("steps", [])


def test_there_are_workflows_for_changes_and_for_releases() -> None:
    assert [path.name for path in WORKFLOWS] == ["ci.yaml", "release.yaml"]


@every_workflow
def test_actions_of_others_are_pinned_by_commit_with_the_version_beside(workflow: Path) -> None:
    uses = [line.strip("- ") for line in workflow.read_text().splitlines() if re.match(r"\s*(- )?uses:", line)]
    assert [line for line in uses if not PINNED.match(line) and not line.startswith("uses: ./")] == []


def test_an_action_is_of_one_version_everywhere() -> None:
    pinned: dict[str, set[str]] = {}
    for workflow in WORKFLOWS:
        for name, version in re.findall(r"uses: +([\w./-]+)@(.*)", workflow.read_text()):
            pinned.setdefault(name, set()).add(version)
    assert {name: versions for name, versions in pinned.items() if len(versions) > 1} == {}


@every_workflow
def test_nothing_is_allowed_by_default_and_each_job_says_what_it_needs(workflow: Path) -> None:
    assert yaml.safe_load(workflow.read_text())["permissions"] == {}
    assert [name for name, job in jobs(workflow).items() if "permissions" not in job] == []


def test_only_jobs_that_publish_may_write() -> None:
    writers = {
        name for workflow in WORKFLOWS for name, job in jobs(workflow).items() if "write" in job["permissions"].values()
    }
    assert writers == {"image", "charts", "plugin", "publish"}


def test_nothing_is_published_before_the_tests_have_passed() -> None:
    release = jobs(FOLDER / "workflows" / "release.yaml")

    def before(name: str) -> set[str]:
        needs = release[name].get("needs", [])
        direct = {needs} if isinstance(needs, str) else set(needs)
        return direct.union(*(before(one) for one in direct))

    assert release["ci"]["uses"] == "./.github/workflows/ci.yaml"
    assert [name for name in ("image", "charts", "plugin", "publish") if "ci" not in before(name)] == []
    assert before("publish") == {"versions", "ci", "image", "charts", "plugin"}


@every_workflow
def test_steps_run_scripts_and_targets_that_exist(workflow: Path) -> None:
    targets = set(re.findall(r"^([a-z][\w-]*):(?!=)", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for step in steps(workflow):
        if "run" not in step:
            continue
        words = step["run"].split()
        assert "\n" not in step["run"].strip(), "put it into .github/scripts, where it can be run by hand"
        for word in words:
            if word.startswith((".github/", ".ci/")):
                assert os.access(ROOT / word, os.X_OK), word
        if words[0] == "make":
            assert words[1] in targets
        else:
            assert words[0].startswith((".github/scripts/", ".ci/")), step["run"]


@every_workflow
def test_no_step_has_what_others_wrote_in_its_shell(workflow: Path) -> None:
    """`${{ }}` in a command is put in before the shell reads it: names of branches could be commands."""
    assert [step["run"] for step in steps(workflow) if "${{" in step.get("run", "")] == []


@every_script
def test_scripts_can_be_run_and_stop_at_what_fails(script: Path) -> None:
    lines = script.read_text().splitlines()
    assert os.access(script, os.X_OK)
    assert lines[0] == "#!/usr/bin/env bash"
    assert lines[1].startswith("# "), "say what it does"
    assert "set -euo pipefail" in lines


@every_script
def test_scripts_are_used_and_are_shell(script: Path) -> None:
    texts = "".join(path.read_text() for path in (*WORKFLOWS, ROOT / "Makefile"))
    assert f".github/scripts/{script.name}" in texts
    subprocess.run(["bash", "-n", str(script)], check=True)


def test_the_registry_is_named_in_one_place() -> None:
    assert (FOLDER / "workflows" / "release.yaml").read_text().count(REGISTRY) == 1
    code = [FOLDER, ROOT / "release", ROOT / "helm", ROOT / "manifests", ROOT / "crds"]
    others = [
        str(path.relative_to(ROOT))
        for folder in code
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".pyc" and re.search(rf"{REGISTRY}/(?!owner\b)", path.read_text())
    ]
    assert others == [".github/workflows/release.yaml"]
    assert re.findall(rf".*{REGISTRY}.*", (ROOT / "README.md").read_text()) == [
        f"REGISTRY={REGISTRY}/OWNER    # the one place that names it"
    ]


def test_ci_runs_what_the_repository_says_that_it_runs() -> None:
    runs = [step.get("run", "") for step in steps(FOLDER / "workflows" / "ci.yaml")]
    assert ".github/scripts/as-root .ci/run" in runs
    assert ".github/scripts/as-root .github/scripts/test-on-kind" in runs
