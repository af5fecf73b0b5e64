"""`lora list`."""

from __future__ import annotations

import argparse

from rich.text import Text

from lora_operator.plugin.screen import Screen
from lora_operator.terminal.opening import listed, opened
from lora_operator.terminal.words import ago, in_bytes, state


async def run(arguments: argparse.Namespace) -> int:
    query = {
        "search": arguments.search, "tags": arguments.tag, "base_model": arguments.base_model,
        "state": arguments.state, "sort": arguments.sort, "order": "desc" if arguments.descending else "asc",
        "mine": arguments.mine, "deleted": arguments.deleted,
    }  # fmt: skip
    async with opened(arguments) as client:
        found = await listed(client, query, arguments.limit)
    screen = Screen(arguments.output)
    head = ["NAME", "OWNER", "VERSION", "SIZE", "STATE", "LAST USE", "AGE", "TAGS"]
    wide = ["BASE MODEL", "MODEL", "ID"]

    def draw() -> None:
        rows: list[list[str | Text]] = []
        for each in found:
            row: list[str | Text] = [
                each["name"], each["owner"], str(each["version"]), in_bytes(each["size_bytes"]), state(each),
                ago(each["last_used_at"], "none known"), ago(each["created_at"]), ",".join(each["tags"]),
            ]  # fmt: skip
            rows.append(row + ([each["base_model"], each["model"], each["id"]] if screen.wide else []))
        screen.table(head + (wide if screen.wide else []), rows)

    screen.show(found, draw)
    return 0
