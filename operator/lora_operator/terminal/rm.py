"""`lora rm`."""

from __future__ import annotations

import argparse
import sys

from lora_operator.plugin.problems import BAD_COMMAND_LINE, PluginError
from lora_operator.plugin.screen import Screen, clean
from lora_operator.terminal.client import NOT_THERE, Client, Json, LibraryError
from lora_operator.terminal.opening import named, opened


async def run(arguments: argparse.Namespace) -> int:
    async with opened(arguments) as client:
        one = await _found(client, arguments.name, arguments.purge)
        if arguments.purge and not arguments.yes:
            _ask(one["name"])
        await client.call("DELETE", f"/{one['id']}", query=[("purge", "true")] if arguments.purge else ())
    screen = Screen(arguments.output)
    words = "is gone for good" if arguments.purge else f"is deleted; `lora restore {one['name']}` brings it back"
    screen.show({"id": one["id"], "name": one["name"], "purged": arguments.purge},
                lambda: screen.line(f"{one['name']} {words}"))  # fmt: skip
    return 0


async def _found(client: Client, name: str, purge: bool) -> Json:
    try:
        return await named(client, name, own=True)
    except LibraryError as error:
        if not purge or error.status != NOT_THERE:
            raise
        return await named(client, name, deleted=True)


def _ask(name: str) -> None:
    if not sys.stdin.isatty():
        raise PluginError("nobody is there to be asked: give --yes", BAD_COMMAND_LINE)
    sys.stderr.write(clean(f"Remove {name} for good? This cannot be undone [y/N] "))
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise PluginError("nothing was removed")
