"""Whose a model is that an engine lists: one that we loaded from a path of ours, or somebody else's. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from lora_operator.cache.volume import parse_root
from lora_operator.vllm.answers import EngineModel, Frontend
from lora_operator.vllm.quirks import public_name


@dataclass(frozen=True, slots=True)
class OurModel:
    """An adapter that the engine lists from a path of ours."""

    engine_name: str
    name: str
    fingerprint: str
    partial: bool = False  # not every rank of the pod has it: it takes room, and nobody can be sent there


@lru_cache(maxsize=32_768)  # asked again for every model of an engine whenever one of them changes
def our_model(model: EngineModel, adapter_root: str) -> OurModel | None:
    """What one line of `/v1/models` is, if its path is one that we made; None for somebody else's."""
    parsed = parse_root(model.root, adapter_root)
    if parsed is None and model.frontend is Frontend.RUST:  # it lists paths without the links in a pod's adapter root
        parsed = parse_root(model.root, model.root.rstrip("/").rsplit("/", 2)[0] or "/")
    if parsed is None or public_name(model.name) != parsed[0]:
        return None
    return OurModel(model.name, parsed[0], parsed[1], model.partial)
