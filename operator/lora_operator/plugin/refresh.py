"""`kubectl lora refresh`: has the operator look at a source again now, by an annotation that it honours."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime

from lora_operator.api.well_known import REFRESH_ANNOTATION
from lora_operator.plugin.connect import connected
from lora_operator.plugin.fleet import chosen
from lora_operator.plugin.problems import PluginError
from lora_operator.plugin.screen import Screen


async def run(arguments: argparse.Namespace) -> int:
    screen = Screen()
    async with connected(arguments) as cluster:
        bodies = await cluster.adapters()
        named = [body for body in bodies if body["metadata"]["name"] == arguments.name]
        places = {(body["metadata"]["namespace"], body["metadata"]["name"]) for body in named} or {
            (line.namespace, line.resource) for line in chosen(bodies, arguments.name, cluster.where)
        }
        if len({namespace for namespace, _ in places}) > 1:
            raise PluginError(f"several namespaces have {arguments.name}; say which is meant with -n")
        # to the microsecond: the same value twice would be no change, and nobody would look
        now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        for namespace, name in sorted(places):
            await cluster.annotate(namespace, name, {REFRESH_ANNOTATION: now})
            screen.line(f"loraadapter/{name}: its source is looked at again now")
    return 0
