"""`lora quota`."""

from __future__ import annotations

import argparse
import sys

from lora_operator.plugin.screen import Screen, bar, clean
from lora_operator.terminal.opening import opened
from lora_operator.terminal.words import in_bytes


async def run(arguments: argparse.Namespace) -> int:
    async with opened(arguments) as client:
        quota = await client.call("GET", "/quota")
    screen = Screen(arguments.output)
    screen.show(
        quota,
        lambda: screen.table(
            ["", "USED", "MAXIMUM", "", "DELETED"],
            [
                ["bytes", in_bytes(quota["used_bytes"]), in_bytes(quota["max_bytes"]),
                 bar(quota["used_bytes"], quota["max_bytes"]), in_bytes(quota["deleted_bytes"])],
                ["adapters", str(quota["adapters"]), str(quota["max_adapters"]),
                 bar(quota["adapters"], quota["max_adapters"]), ""],
            ],
        ),
    )  # fmt: skip
    if quota["warning"]:
        sys.stderr.write(clean(f"warning: {quota['warning']}\n"))
    return 0
