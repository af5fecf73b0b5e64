"""`lora rollback`."""

from __future__ import annotations

import argparse

from lora_operator.plugin.problems import BAD_COMMAND_LINE, PluginError
from lora_operator.plugin.screen import Screen
from lora_operator.terminal.opening import named, opened


async def run(arguments: argparse.Namespace) -> int:
    if arguments.newest and (arguments.version is not None or arguments.pin):
        raise PluginError("--newest serves the newest, and those that follow: give neither a version nor --pin",
                          BAD_COMMAND_LINE)  # fmt: skip
    async with opened(arguments) as client:
        found = await named(client, arguments.name, own=True)
        one = await client.call("GET", f"/{found['id']}")
        kept = [int(each["version"]) for each in one["versions"]]
        if arguments.newest:
            body: dict[str, object] = {"version": max(kept), "pinned": False}
        else:
            body = {"version": arguments.version or _before(one["version"], kept)}
            body |= {"pinned": True} if arguments.pin else {}
        one = await client.call("PATCH", f"/{one['id']}", body=body)
    screen = Screen(arguments.output)
    pinned = ", and stays" if one["pinned"] else ""
    screen.show(one, lambda: screen.line(f"{one['name']}: version {one['version']} is served{pinned}"))
    return 0


def _before(current: int, kept: list[int]) -> int:
    older = [each for each in kept if each < current]
    if not older:
        versions = ", ".join(map(str, sorted(kept)))
        raise PluginError(f"version {current} is served, and none before it is kept; there are: {versions}")
    return max(older)
