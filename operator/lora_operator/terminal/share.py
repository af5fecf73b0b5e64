"""`lora share`."""

from __future__ import annotations

import argparse

from lora_operator.plugin.screen import Screen
from lora_operator.terminal.client import Json
from lora_operator.terminal.opening import named, opened


async def run(arguments: argparse.Namespace) -> int:
    async with opened(arguments) as client:
        one = await named(client, arguments.name, own=True)
        shared = one["shared_with"]
        before: Json = {"users": [], "groups": [], "everybody": False} if arguments.private else shared
        wanted = {
            "users": sorted({*before["users"], *arguments.user}),
            "groups": sorted({*before["groups"], *arguments.group}),
            "everybody": before["everybody"] or arguments.everybody,
        }
        if wanted != shared:
            one = await client.call("PATCH", f"/{one['id']}", body={"shared_with": wanted})
            shared = one["shared_with"]
    parties = [*shared["users"], *(f"group {each}" for each in shared["groups"])]
    parties += ["everybody"] if shared["everybody"] else []
    screen = Screen(arguments.output)
    screen.show(shared, lambda: screen.line(f"{one['name']} is shared with {', '.join(parties) or 'nobody'}"))
    return 0
