"""Help and completion: quick, since somebody waits with a finger on a key."""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from lora_operator.plugin import completion
from lora_operator.plugin.arguments import COMMANDS, parser
from lora_operator.plugin.completion import candidates
from lora_operator.plugin.completion import main as complete
from lora_operator.plugin.main import main
from tests.core.api_server import ApiServer
from tests.plugin.a_fleet import an_adapter, fill, show

HEAVY = ("aiohttp", "kubernetes", "pydantic", "rich", "yaml", "asyncio", "lora_scheduler", "boto3", "argcomplete")


def test_help_loads_nothing_that_takes_time() -> None:
    program = (
        "import sys\n"
        "from lora_operator.plugin.main import main\n"
        "try:\n    main(['plan', '--help'])\nexcept SystemExit:\n    pass\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])\n"
    )
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert said.stdout.splitlines()[-1] == "[]"


def test_without_a_command_it_says_which_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    said = capsys.readouterr().err
    assert all(f" {command.name}" in said for command in COMMANDS)


@pytest.mark.parametrize("command", [command.name for command in COMMANDS])
def test_every_command_teaches_itself_with_examples_and_its_exit_statuses(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"])
    said = capsys.readouterr().out
    assert ended.value.code == 0
    assert "examples:\n  " in said and "Exit status: 0" in said


def test_the_module_of_every_command_can_be_run() -> None:
    for command in COMMANDS:
        assert find_spec(f"lora_operator.plugin.{command.module}") is not None


def test_with_a_wrong_command_the_status_is_two(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["gett"], ["get", "--output", "xml"], ["top", "--seconds", "0"]):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == 2
    assert "invalid choice: 'gett'" in capsys.readouterr().err


def test_commands_and_flags_are_completed() -> None:
    assert candidates([], "p") == ["pin", "plan", "pods"]
    assert candidates(["plan"], "--add") == ["--add", "--add-pods"]
    assert candidates(["get", "-o"], "") == ["json", "table", "wide", "yaml"]
    assert candidates(["completion"], "f") == ["fish"]


def test_kubectl_is_told_whether_files_may_come_instead(capsys: pytest.CaptureFixture[str]) -> None:
    complete(["re"])
    assert capsys.readouterr().out == "refresh\n:4\n"
    complete(["migrate", ""])
    assert capsys.readouterr().out.endswith(":0\n")


@pytest.fixture
def patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has a finger on the key here, and the machine may be busy."""
    monkeypatch.setattr(completion, "PATIENCE_SECONDS", 60.0)


@pytest.mark.usefixtures("patience")
async def test_names_of_the_cluster_are_completed(api: ApiServer, kubeconfig: Path) -> None:
    fill(api)
    flag = ["--kubeconfig", str(kubeconfig)]
    names = ["assistants", "chat", "on-demand", "poet", "rare", "sql", "wide"]
    assert await asyncio.to_thread(candidates, ["why", *flag], "") == names
    assert await asyncio.to_thread(candidates, ["evict", *flag, "--pod"], "vllm") == ["vllm-0", "vllm-1"]
    assert await asyncio.to_thread(candidates, ["get", *flag, "--context"], "a") == ["away"]


@pytest.mark.usefixtures("patience")
async def test_what_a_shell_would_expand_is_not_offered(api: ApiServer, kubeconfig: Path) -> None:
    show(api, [an_adapter("sql", {"sql": [], "sql$(reboot)": [], "sql`x`": [], "sql\nx": []})], [])
    assert await asyncio.to_thread(candidates, ["why", "--kubeconfig", str(kubeconfig)], "sq") == ["sql"]


def test_names_of_a_cluster_that_is_away_are_simply_not_offered(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    complete(["why", "--kubeconfig", str(tmp_path / "none"), ""])
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == (":0\n", "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_a_script(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["completion", shell]) == 0
    assert "kubectl-lora" in capsys.readouterr().out


def test_a_shell_is_answered_in_the_way_of_its_script(tmp_path: Path) -> None:
    answer = tmp_path / "answer"
    line = "kubectl-lora wh"
    environment = {
        **os.environ, "_ARGCOMPLETE": "1", "COMP_LINE": line, "COMP_POINT": str(len(line)),
        "_ARGCOMPLETE_STDOUT_FILENAME": str(answer),
    }  # fmt: skip
    subprocess.run([sys.executable, "-m", "lora_operator.plugin.main"], env=environment, check=True, timeout=60)
    assert answer.read_text().split("\x0b") == ["why "]


def test_all_flags_have_help() -> None:
    for action in parser()._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, one in action.choices.items():
                lacking = [a.dest for a in one._actions if not a.help and a.choices is None]
                assert not lacking, name
