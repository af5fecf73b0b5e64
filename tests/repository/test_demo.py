"""The demo as a user runs it, and what it says when it cannot run."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import requests

from e2e.demo.workplace import PROBE_ADDRESS

ROOT = Path(__file__).parents[2]


def command(*arguments: str, directory: Path) -> list[str]:
    return [sys.executable, "-m", "e2e.demo", *arguments, "--dir", str(directory)]


def demo(*arguments: str, directory: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments, directory=directory),
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def processes_of(directory: Path) -> list[str]:
    """Command lines that name this folder."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        line = " ".join(process.info["cmdline"] or ())
        if str(directory) in line and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(line)
    return found


def test_a_folder_that_is_not_a_demos_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("important")
    run = demo(directory=tmp_path)
    assert run.returncode == 2
    assert "is not empty and was not made by a demo; give another folder" in run.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_port_that_another_program_has_is_named_with_what_to_do(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind((PROBE_ADDRESS, 0))
        other.listen()
        port = other.getsockname()[1]
        run = demo("--port", str(port), directory=tmp_path / "demo")
    assert run.returncode == 2
    assert f"port {port} is taken" in run.stdout
    assert "choose another port" in run.stdout


def test_an_engine_that_there_is_not_is_refused_with_those_that_there_are(tmp_path: Path) -> None:
    run = demo("--engine", "nonsense", directory=tmp_path / "demo")
    assert run.returncode == 2
    assert "invalid choice: 'nonsense' (choose from 'sim', 'vllm')" in run.stdout


def test_a_cache_that_cannot_be_written_is_named_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "cache").touch()
    environment = {"LORA_OPERATOR_CACHE": str(tmp_path / "cache"), "KUBEBUILDER_ASSETS": ""}
    run = demo(directory=tmp_path / "demo", USE_EXISTING_CLUSTER="", **environment)
    assert run.returncode == 2
    assert "set LORA_OPERATOR_CACHE to a folder that can be written to" in run.stdout
    assert "Traceback" not in run.stdout


def test_without_a_demo_there_is_nothing_to_end(tmp_path: Path) -> None:
    run = demo("down", directory=tmp_path / "none")
    assert (run.returncode, run.stdout.split(" in ")[0]) == (0, "nothing was left running")


@pytest.mark.cluster
def test_everything_is_shown_and_can_be_left_running_and_ended(tmp_path: Path) -> None:
    directory = tmp_path / "demo"
    try:
        run = demo("--keep", directory=directory)
        assert run.returncode == 0, run.stdout
        assert "all as promised" in run.stdout
        assert "one address answered" in run.stdout or "Not shown here" in run.stdout
        where = dict(re.findall(r"^ +(web view|router API|metrics) +(http\S+)$", run.stdout, re.MULTILINE))
        pages = {what: requests.get(address, timeout=10) for what, address in where.items()}
        assert {what: page.status_code for what, page in pages.items()} == dict.fromkeys(
            ("web view", "router API", "metrics"), 200
        )
        again = demo("--keep", directory=directory)
        assert again.returncode == 2
        assert "a demo was left running" in again.stdout
        record = json.loads((directory / "running.json").read_text())
        kubectl = [record["kubectl"], f"--kubeconfig={record['kubeconfig']}", "get", "la", "-o", "name"]
        listed = subprocess.run(kubectl, capture_output=True, text=True, check=True).stdout.split()
        assert [name.partition("/")[2] for name in listed] == ["mixed", "sql", "support"]
    finally:
        ended = demo("down", directory=directory)
    assert ended.returncode == 0, ended.stdout
    assert processes_of(directory) == []


@pytest.mark.cluster
def test_an_interrupt_ends_everything(tmp_path: Path) -> None:
    directory = tmp_path / "demo"
    with subprocess.Popen(
        command(directory=directory), cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as run:
        assert run.stdout is not None
        for line in run.stdout:
            if "1/9" in line:
                break
        assert processes_of(directory)
        os.killpg(run.pid, signal.SIGINT)
        rest = run.stdout.read()
        assert run.wait() == 130, rest
    assert "everything has been ended" in rest
    assert processes_of(directory) == []
    shutil.rmtree(directory)
