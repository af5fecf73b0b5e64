"""`kubectl lora` with what pip installs for it alone, without the libraries of stores (the extra `sources`)."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.utils import canonicalize_name

from lora_operator.cli import run
from lora_operator.plugin.arguments import COMMANDS
from lora_operator.settings.operator import add_arguments

ROOT = Path(__file__).parents[2]
NEW = Path(__file__).with_name("new.yaml")

# no module that only other packages bring can be found
ALONE = """
import sys
absent = set({absent})
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name in absent:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
"""


def alone(program: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a Python that finds only the packages of the plugin's lock, and the repository's own."""
    locked = re.findall(r"^([\w.-]+)==", (ROOT / "image/requirements/plugin.txt").read_text(), re.MULTILINE)
    there = {"lora-operator", *map(canonicalize_name, locked)}
    absent = {
        module
        for module, packages in packages_distributions().items()
        if not there & {canonicalize_name(package) for package in packages}
    }
    assert {"azure", "botocore", "huggingface_hub", "httpx2"} <= absent
    start = ALONE.format(absent=sorted(absent))
    return subprocess.run([sys.executable, "-c", start + program], capture_output=True, text=True, timeout=240)


def test_no_command_needs_more_than_its_lock() -> None:
    modules = [f"lora_operator.plugin.{command.module}" for command in COMMANDS]
    run = alone(f"import importlib\nfor module in {modules}: importlib.import_module(module)")
    assert (run.returncode, run.stderr) == (0, "")


def test_plan_says_which_library_a_source_needs() -> None:
    run = alone(f"from lora_operator.plugin.main import main\nsys.exit(main(['plan', '-f', {str(NEW)!r}]))")
    assert run.returncode == 3, run.stderr
    assert "pip install 'lora-operator[sources]'); say --rank" in " ".join(run.stdout.split())


def test_the_operator_says_that_its_libraries_are_missing(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(run, "missing_libraries", lambda: ("botocore",))
    monkeypatch.setattr(run.logs, "configure", lambda *_: None)
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    assert run.main(parser.parse_args([])) == 1
    assert "(botocore): pip install 'lora-operator[sources]'" in caplog.text
