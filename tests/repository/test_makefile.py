"""The ways into the repository: make and continuous integration."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
MAKEFILE = ROOT / "Makefile"


def targets() -> dict[str, bool]:
    """Every target that is not a file, and whether it has help."""
    found = re.findall(r"^([a-z][\w%-]*):(?!=)(.*)$", MAKEFILE.read_text(), re.MULTILINE)
    return {name: "## " in rest for name, rest in found}


def test_every_target_has_help() -> None:
    assert [name for name, has_help in targets().items() if not has_help] == []


def test_make_help_lists_every_target() -> None:
    out = subprocess.run(["make", "--no-print-directory", "help"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert {line.split()[1] for line in out.stdout.splitlines()} == set(targets())


def test_make_alone_shows_the_help() -> None:
    run = subprocess.run(["make", "--no-print-directory"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "make setup" in run.stdout


def test_an_old_python_is_refused_with_what_to_do(tmp_path: Path) -> None:
    old = tmp_path / "python3.9"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo Python 3.9.1 && exit 0\nexit 1\n')
    old.chmod(0o755)
    command = ["make", "setup", f"PYTHON={old}", f"VENV={tmp_path}/venv"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode != 0
    assert "Python 3.9.1, and Python 3.11 or newer is needed" in run.stderr


def test_continuous_integration_runs_make_test() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert "make test" in script.read_text()
