"""`lora show`."""

from __future__ import annotations

import argparse
from typing import Any

from lora_operator.plugin.screen import Screen
from lora_operator.terminal.opening import named, opened
from lora_operator.terminal.words import ago, in_bytes


async def run(arguments: argparse.Namespace) -> int:
    async with opened(arguments) as client:
        one = await client.call("GET", f"/{(await named(client, arguments.name))['id']}")
    screen = Screen(arguments.output)
    screen.show(one, lambda: _draw(screen, one))
    return 0


def _draw(screen: Screen, one: dict[str, Any]) -> None:
    shared = one["shared_with"] or {}
    parties = [*shared.get("users", ()), *(f"group {each}" for each in shared.get("groups", ()))]
    parties += ["everybody"] if shared.get("everybody") else []
    pairs = {
        "Name": one["name"], "Call it as": one["model"], "Owner": one["owner"], "Id": one["id"],
        "State": ": ".join(filter(None, (one["state"], one["reason"], one["message"]))),
        "Loaded on": ", ".join(one["pods"]), "Base model": one["base_model"],
        "Trained on": "" if one["trained_on"] == one["base_model"] else one["trained_on"],
        "Rank": one["rank"], "Modules": ", ".join(one["modules"]), "Weights": one["dtype"],
        "Size": in_bytes(one["size_bytes"]), "Trigger words": ", ".join(one["trigger_words"]),
        "Tags": ", ".join(one["tags"]), "Description": one["description"], "Shared with": ", ".join(parties),
        "Last use": f"{ago(one['last_used_at'])} ago" if one["last_used_at"] else "none known",
        "Uploaded": f"{ago(one['created_at'])} ago", "Doubts": "; ".join(one["doubts"]),
        "Version": f"{one['version']}{', pinned' if one['pinned'] else ''}, of "
        + ", ".join(str(each["version"]) for each in one["versions"]),
    }  # fmt: skip
    for name, value in pairs.items():
        if value not in ("", None):
            screen.line(f"{name + ':':<15}{value}")
