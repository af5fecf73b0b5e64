"""The examples of docs/cli.md print what the page shows."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.core.api_server import ApiServer
from tests.plugin.a_fleet import fill
from tests.plugin.conftest import Lora

PAGE = Path(__file__).parents[2] / "docs" / "cli.md"
HERE = Path(__file__).parent


def examples() -> list[tuple[str, str]]:
    """(command, what it prints)."""
    blocks = re.findall(r"```console\n(.*?)```", PAGE.read_text(), re.DOTALL)
    return [
        (command, output)
        for block in blocks
        for command, output in re.findall(r"^\$ kubectl lora (.*?)\n(.*?)(?=^\$ |\Z)", block, re.DOTALL | re.MULTILINE)
    ]


@pytest.mark.parametrize(("command", "output"), examples())
async def test_the_page_shows_what_is_printed(
    lora: Lora, api: ApiServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, output: str
) -> None:
    fill(api)
    for file in (HERE / "new.yaml", HERE / "peers" / "lora-syncer.yaml"):
        shutil.copy(file, tmp_path)
    monkeypatch.chdir(tmp_path)
    said = await lora(*command.split())
    assert said.out + said.err == output


def test_there_are_examples() -> None:
    assert len(examples()) >= 7
