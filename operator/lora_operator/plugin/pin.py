"""`kubectl lora pin` and `unpin`: keeps the files of adapters in all caches, by an annotation of their LoraAdapter."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from lora_operator.api.well_known import PIN_ANNOTATION
from lora_operator.desired.pinning import ALL, pinned_names, write
from lora_operator.plugin.connect import connected
from lora_operator.plugin.fleet import Line, chosen
from lora_operator.plugin.problems import PluginError
from lora_operator.plugin.screen import Screen


async def run(arguments: argparse.Namespace) -> int:
    pin = arguments.command == "pin"
    async with connected(arguments) as cluster:
        bodies = await cluster.adapters()
        found = chosen(bodies, arguments.name, cluster.where)
        if len({line.namespace for line in found}) > 1:
            raise PluginError(f"several namespaces have {arguments.name}; say which is meant with -n")
        screen = Screen()
        for body in bodies:
            place = (body["metadata"]["namespace"], body["metadata"]["name"])
            here = [line for line in found if (line.namespace, line.resource) == place and line.reason != "Conflict"]
            if here:
                value, said = changed(body, here, arguments.name, pin=pin)
                await cluster.annotate(*place, {PIN_ANNOTATION: value})
                screen.line(f"loraadapter/{place[1]}: {said}")
    return 0


def changed(body: Mapping[str, Any], here: list[Line], name: str, *, pin: bool) -> tuple[str | None, str]:
    """The annotation's new value, and what to say. Raises PluginError for one adapter out of all that are pinned."""
    before = pinned_names((body["metadata"].get("annotations") or {}).get(PIN_ANNOTATION, ""))
    whole = body["metadata"]["name"] == name and all(line.adapter != name for line in here)
    if whole:
        return (write({ALL}), "all of its adapters are pinned") if pin else (None, "none of its adapters is pinned")
    every = {str(item["name"]) for item in (body.get("status") or {}).get("adapters") or ()}
    if pin:
        return write(before | {name}), f"{name} is pinned"
    if ALL in before and every != {name}:
        raise PluginError(
            f"all adapters of LoraAdapter {body['metadata']['name']} are pinned: unpin that, and pin single ones"
        )
    return write(before - {name, ALL}), f"{name} is not pinned"
