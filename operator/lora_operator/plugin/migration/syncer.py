"""Gateway API inference extension: the ConfigMap of its LoRA syncer, a sidecar in each vLLM pod."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml

from lora_operator.plugin.migration.translated import Json, Translated, Untranslatable, resource, source_of

KIND, ROOT = "ConfigMap", "vLLMLoRAConfig"
OWN_PORT = 8000


def is_ours(body: Json) -> bool:
    """Whether this module translates it."""
    return body.get("kind") == KIND and any(_configs(body))


def _configs(body: Json) -> Iterator[dict[str, Any]]:
    for text in (body.get("data") or {}).values():
        if not isinstance(text, str) or ROOT not in text:
            continue
        try:
            document = yaml.safe_load(text)
        except yaml.YAMLError:
            continue
        if isinstance(document, dict) and isinstance(document.get(ROOT), dict):
            yield document[ROOT]


def translate(body: Json, base_model: str | None, into: Translated, what: str) -> None:
    """Each adapter for itself: one that cannot be translated is a note, and the others are."""
    for config in _configs(body):
        for model in _models(config, "ensureExist"):
            try:
                _translate(body, config, model, base_model, into, what)
            except Untranslatable as error:
                into.failed += 1
                into.notes.append(f"{what}: adapter {model.get('id')}: not translated: {error}")
        if config.get("port") not in (None, OWN_PORT):
            into.notes.append(
                f"{what}: port {config['port']} is read from the pods: --port of vLLM, or the annotation port"
            )
        gone = [str(model.get("id")) for model in _models(config, "ensureNotExist")]
        if gone:
            into.notes.append(
                f"{what}: ensureNotExist ({', '.join(gone)}) has no equal: what was loaded here and no LoraAdapter "
                "wants is unloaded; what others loaded is left alone"
            )
        into.notes.append(f"{what}: remove the syncer from the pods, or both will load and unload")


def _models(config: Json, part: str) -> list[dict[str, Any]]:
    models = (config.get(part) or {}).get("models") or []
    return [model for model in models if isinstance(model, dict)]


def _translate(body: Json, config: Json, model: Json, base_model: str | None, into: Translated, what: str) -> None:
    name, place = str(model.get("id") or ""), str(model.get("source") or "")
    if not name or not place:
        raise Untranslatable("it lacks id or source")
    theirs = model.get("base-model") or config.get("defaultBaseModel") or base_model
    if not theirs:
        raise Untranslatable("it does not say its base model: give --base-model NAME")
    source = source_of(place)
    into.adapters.append(resource(body, name, str(theirs), source, {"replicaPolicy": "AllPods"}, served=name))
