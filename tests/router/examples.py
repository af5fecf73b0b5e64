"""The examples of a page, as commands with what they print."""

from __future__ import annotations

import asyncio
import json
import os
import re

from tests.router.serving import Served


def examples(page: str) -> list[tuple[str, str]]:
    """(command, what it prints)."""
    blocks = re.findall(r"```console\n(.*?)```", page, re.DOTALL)
    return [
        (command, output)
        for block in blocks
        for command, output in re.findall(r"^\$ (.*?)\n(?! )(.*?)(?=^\$ |\Z)", block, re.DOTALL | re.MULTILINE)
    ]


async def try_examples(page: str, api: Served) -> None:
    """Each prints what the page says; `…` stands for the rest of a long output."""
    for command, output in examples(page):
        process = await asyncio.create_subprocess_shell(
            command, stdout=asyncio.subprocess.PIPE, env={**os.environ, "ROUTER": api.url, "NO_PROXY": "*"}
        )
        said = (await process.communicate())[0].decode()
        if output.startswith("{"):
            assert json.loads(said) == json.loads(output), command
        else:
            beginning, cut, _ = output.partition("…")
            assert said.startswith(beginning) if cut else said == output, command
