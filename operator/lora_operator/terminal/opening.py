"""A client for one command, and the adapter that its command line names."""

from __future__ import annotations

import argparse
import contextlib
import re
import sys
from collections.abc import AsyncIterator, Iterable, Mapping
from difflib import get_close_matches

from lora_operator.plugin.screen import clean
from lora_operator.terminal.access import access
from lora_operator.terminal.client import NOT_THERE, Client, Json, LibraryError

PAGE = 500
_ID = re.compile("[0-9a-f]{32}")


@contextlib.asynccontextmanager
async def opened(arguments: argparse.Namespace) -> AsyncIterator[Client]:
    """Raises PluginError."""
    wanted = access(arguments)
    if wanted.in_the_open:
        sys.stderr.write(f"warning: {clean(wanted.server)} is plain HTTP: whoever is on the way can read your token\n")
    async with Client(wanted) as client:
        yield client


async def listed(client: Client, query: Mapping[str, object], most: int = 10_000) -> list[Json]:
    """All pages of a list. Raises LibraryError."""
    given = [(name, str(each)) for name, value in query.items() for each in _values(value)]
    found: list[Json] = []
    while True:
        limit = min(PAGE, most - len(found))
        page = await client.call("GET", "", query=[*given, ("limit", str(limit)), ("offset", str(len(found)))])
        found += page["loras"]
        if len(found) >= min(most, page["total"]) or not page["loras"]:
            return found


async def named(client: Client, name: str, *, own: bool = False, deleted: bool = False) -> Json:
    """The adapter that is called so, or has this id, as lists have it. Raises LibraryError."""
    owner, _, last = name.rpartition("/")
    query = {"deleted": deleted, "mine": own or deleted} | ({} if _ID.fullmatch(name) else {"search": last})
    every = await listed(client, query)
    fitting = [
        each for each in every if each["id"] == name or (each["name"] == last and owner in ("", each["owner"]))
    ]  # fmt: skip
    if not owner and len(fitting) > 1 and not deleted:
        me = (await client.call("GET", "/me"))["subject"]
        fitting = [each for each in fitting if each["owner"] == me] or fitting
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        raise LibraryError(f"several are called {name}: name one by its id: {_told(fitting)}", NOT_THERE)
    others = every if _ID.fullmatch(name) else await listed(client, query | {"search": ""})
    near = get_close_matches(last, sorted({each["name"] for each in others}), 3)
    hint = "`lora list --deleted` shows what there is" if deleted else "`lora list` shows what there is"
    hint = f"did you mean {', '.join(near)}?" if near else hint
    what = "deleted adapter" if deleted else "adapter of your own" if own else "adapter"
    raise LibraryError(f"there is no {what} {name}; {hint}", NOT_THERE)


def _told(several: Iterable[Json]) -> str:
    return ", ".join(f"{each['id']} ({each['owner']}, {each['deleted_at'] or each['created_at']})" for each in several)


def _values(value: object) -> list[object]:
    if isinstance(value, bool):
        return ["true"] if value else []
    if isinstance(value, (list, tuple)):
        return list(value)
    return [value] if value not in ("", None) else []
