"""`lora versions`."""

from __future__ import annotations

import argparse

from rich.text import Text

from lora_operator.plugin.screen import GOOD, Screen
from lora_operator.terminal.opening import named, opened
from lora_operator.terminal.words import ago, in_bytes


async def run(arguments: argparse.Namespace) -> int:
    async with opened(arguments) as client:
        one = await client.call("GET", f"/{(await named(client, arguments.name))['id']}")
    screen = Screen(arguments.output)
    served = Text("pinned" if one["pinned"] else "served", GOOD)
    screen.show(
        one["versions"],
        lambda: screen.table(
            ["VERSION", "AGE", "SIZE", "RANK", "BY", "FINGERPRINT", ""],
            [
                [
                    str(each["version"]), ago(each["created_at"]), in_bytes(each["size_bytes"]),
                    str(each["rank"] or ""), each["created_by"], each["fingerprint"],
                    served if each["version"] == one["version"] else "",
                ]
                for each in one["versions"]
            ],
        ),
    )  # fmt: skip
    return 0
