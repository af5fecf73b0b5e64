"""`kubectl lora migrate`: LoraAdapters from the resources of other projects, and notes on what has no equal."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterable

from lora_operator.kube.client import Json
from lora_operator.plugin.migration import aibrix, production_stack, syncer
from lora_operator.plugin.migration.translated import Translated, Untranslatable
from lora_operator.plugin.objects import documents
from lora_operator.plugin.problems import FAILED, PluginError
from lora_operator.plugin.screen import as_yaml, clean

PROJECTS = (aibrix, production_stack, syncer)
PODS_NOTE = (
    "vLLM pods have to take part: label production-stack.vllm-project/lora=enabled, --enable-lora and "
    "VLLM_ALLOW_RUNTIME_LORA_UPDATING=True (docs/install.md)"
)


async def run(arguments: argparse.Namespace) -> int:
    found = translated((body for name in arguments.file for body in documents(name)), arguments.base_model)
    if not found.adapters and not found.failed:
        raise PluginError(
            "nothing to translate: no ModelAdapter of AIBrix, LoraAdapter of the production stack or ConfigMap of the "
            "LoRA syncer in what was given"
        )
    if found.adapters:
        sys.stdout.write(as_yaml(found.adapters, several=True))
        found.notes.append(PODS_NOTE)
    sys.stderr.write("".join(f"note: {clean(note)}\n" for note in found.notes))
    return FAILED if found.failed else 0


def translated(bodies: Iterable[Json], base_model: str | None = None) -> Translated:
    """Everything that can be translated; what cannot is a note, and counted."""
    found = Translated()
    for body in bodies:
        what = f"{body['kind']} {body['metadata']['name']}"
        project = next((project for project in PROJECTS if project.is_ours(body)), None)
        if project is None:
            found.notes.append(f"{what} ({body.get('apiVersion')}): passed over")
            continue
        try:
            project.translate(body, base_model, found, what)
        except Untranslatable as error:
            found.failed += 1
            found.notes.append(f"{what}: not translated: {error}")
    places = Counter((one["metadata"].get("namespace"), one["metadata"]["name"]) for one in found.adapters)
    for (_, name), count in places.items():
        if count > 1:
            found.notes.append(f"{count} LoraAdapters are called {name}: rename all but one, the last would win")
    return found
