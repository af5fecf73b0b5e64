"""`lora restore`."""

from __future__ import annotations

import argparse

from lora_operator.plugin.screen import Screen
from lora_operator.terminal.opening import named, opened


async def run(arguments: argparse.Namespace) -> int:
    async with opened(arguments) as client:
        found = await named(client, arguments.name, deleted=True)
        one = await client.call("POST", f"/{found['id']}/restore")
    screen = Screen(arguments.output)
    screen.show(one, lambda: screen.line(f"{one['name']} is restored; call it as {one['model']}"))
    return 0
